import Dispatch

/// Threads for what a request takes until it is queued: JSON, templates and tokens of megabytes take
/// seconds, for which the threads that carry the streams of others must not stand still.
final class RequestExecutor: TaskExecutor {
  private let queue = DispatchQueue(label: "requests", qos: .utility, attributes: .concurrent)

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { [self] in job.runSynchronously(on: asUnownedTaskExecutor()) }
  }
}
