/// The processors that this process may use, and how many threads make sense on them.
///
/// A compute-bound thread fills a physical core, so that two on one core (siblings) share its units
/// and gain little; beyond a limit of a control group, the system stops all threads for a while.
public struct ProcessorLimits: Sendable, Equatable {
  /// Logical processors of the machine.
  public let processorCount: Int
  /// Those that the process's affinity mask allows.
  public let allowedCount: Int
  /// Physical cores among those allowed.
  public let coreCount: Int
  /// Processors' worth of time that control groups allow; nil without a limit.
  public let groupLimit: Double?

  /// Threads to use: one for each physical core, and no more than the control group's limit, rounded
  /// up.
  public var threadCount: Int {
    guard let groupLimit, groupLimit < Double(coreCount) else { return coreCount }
    return max(1, Int(groupLimit.rounded(.up)))
  }

  /// Why ``threadCount`` is what it is, as a clause.
  public var reason: String {
    if threadCount < coreCount, let groupLimit {
      let hundredths = Int((groupLimit * 100).rounded())
      let fraction = hundredths % 100 == 0 ? "" : "." + "\(100 + hundredths % 100)".dropFirst()
      return "the control group's limit is \(hundredths / 100)\(fraction) processors"
    }
    let mask = allowedCount < processorCount ? " that the affinity mask allows" : ""
    return "one for each physical core\(mask)"
  }

  /// What holds for the calling thread now.
  public static var current: ProcessorLimits {
    ProcessorLimits(processorCount: SystemProcessors.count, root: "")
  }

  /// - Parameter root: what comes before `/sys` and `/proc`; tests have their own.
  init(processorCount: Int, root: String) {
    self.processorCount = processorCount
    let allowed = Self.affinityMask(root: root) ?? Array(0..<processorCount)
    allowedCount = allowed.count
    // Siblings have the same list of siblings; a processor without one is a core of its own.
    let cores = Set(
      allowed.map { processor in
        let topology = "\(root)/sys/devices/system/cpu/cpu\(processor)/topology/"
        return SystemProcessors.text("\(topology)core_cpus_list")
          ?? SystemProcessors.text("\(topology)thread_siblings_list") ?? "\(processor)"
      })
    coreCount = cores.count
    groupLimit = Self.groupLimit(root: root)
  }

  /// Numbers of the processors that the calling thread may run on, what `sched_getaffinity` would
  /// say; nil where the system does not say it in `/proc`.
  private static func affinityMask(root: String) -> [Int]? {
    let status = SystemProcessors.text("\(root)/proc/thread-self/status") ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
    guard let words = line?.split(whereSeparator: \.isWhitespace), words.count == 2 else {
      return nil
    }
    // As in 0-3,8,10-11.
    let processors = words[1].split(separator: ",").flatMap { range -> [Int] in
      let ends = range.split(separator: "-").map { Int($0) ?? .max }
      guard let first = ends.first, let last = ends.last, first <= last, last < 1 << 16 else {
        return []
      }
      return Array(first...last)
    }
    return processors.isEmpty ? nil : processors
  }

  /// The smallest limit of the process's control group and of those around it, of both versions.
  private static func groupLimit(root: String) -> Double? {
    let memberships = SystemProcessors.text("\(root)/proc/self/cgroup") ?? ""
    var limits: [Double] = []
    for line in memberships.split(separator: "\n") {
      // hierarchy:controllers:path, the path as seen from the root of the control groups.
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let controllers = fields[1].split(separator: ",")
      guard fields[1].isEmpty || controllers.contains("cpu") else { continue }
      let mounts = fields[1].isEmpty ? ["", "/unified"] : ["/cpu", "/cpu,cpuacct"]
      for group in groups(from: fields[2]) {
        for mount in mounts {
          let directory = "\(root)/sys/fs/cgroup\(mount)\(group)"
          limits += [fields[1].isEmpty ? limit2(directory) : limit1(directory)].compactMap { $0 }
        }
      }
    }
    return limits.min()
  }

  /// A group's path and those of the groups around it, the root as an empty path.
  private static func groups(from path: Substring) -> [String] {
    var names = path.split(separator: "/")
    if names.contains("..") { names = [] }  // outside what a container sees
    return (0...names.count).map { count in names.prefix(count).map { "/" + $0 }.joined() }
  }

  /// `cpu.max`: microseconds, or `max`, in a period.
  private static func limit2(_ directory: String) -> Double? {
    let words = SystemProcessors.text("\(directory)/cpu.max")?.split(separator: " ") ?? []
    return words.count == 2 ? ratio(words[0], words[1]) : nil
  }

  private static func limit1(_ directory: String) -> Double? {
    guard let quota = SystemProcessors.text("\(directory)/cpu.cfs_quota_us"),
      let period = SystemProcessors.text("\(directory)/cpu.cfs_period_us")
    else { return nil }
    return ratio(quota[...], period[...])
  }

  /// Nil where there is no limit: `max`, or −1 in version 1.
  private static func ratio(_ quota: Substring, _ period: Substring) -> Double? {
    guard let quota = Int(quota), let period = Int(period), quota > 0, period > 0 else {
      return nil
    }
    return Double(quota) / Double(period)
  }
}
