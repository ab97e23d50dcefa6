import Foundation
import TestSupport
import Testing

@testable import TensorCore

/// How many threads are used, on machines that this one is not.
@Suite struct ProcessorLimitsTests {
  /// The limits that a tree of files beneath a root says.
  private func limits(
    allowed: String? = nil, files: [String: String]
  ) throws -> ProcessorLimits {
    try Place.withTemporaryDirectory { root in
      var files = files
      files["proc/thread-self/status"] = allowed.map {
        "Name:\tquarry\nCpus_allowed:\tff\nCpus_allowed_list:\t\($0)\nMems_allowed:\t1\n"
      }
      for (path, text) in files {
        let file = root.appending(path: path)
        try FileManager.default.createDirectory(
          at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
      }
      return ProcessorLimits(processorCount: 8, root: root.path)
    }
  }

  /// Eight processors on four cores; n and n + 4 are siblings.
  private func siblings(_ name: String) -> [String: String] {
    Dictionary(
      uniqueKeysWithValues: (0..<8).map {
        ("sys/devices/system/cpu/cpu\($0)/topology/\(name)", "\($0 % 4),\($0 % 4 + 4)\n")
      })
  }

  @Test(arguments: ["core_cpus_list", "thread_siblings_list"])
  func oneThreadForEachCore(file: String) throws {
    let all = try limits(files: siblings(file))
    #expect(all.coreCount == 4 && all.threadCount == 4 && all.groupLimit == nil)
    #expect(all.reason == "one for each physical core")
    // Two siblings are one core, two processors of different cores are two.
    #expect(try limits(allowed: "1,5", files: siblings(file)).threadCount == 1)
    let some = try limits(allowed: "1-2,6", files: siblings(file))
    #expect(some.allowedCount == 3 && some.threadCount == 2)
    #expect(some.reason == "one for each physical core that the affinity mask allows")
  }

  @Test func withoutTopologyEveryProcessorIsACore() throws {
    #expect(try limits(files: [:]).threadCount == 8)
    #expect(try limits(allowed: "0-2,4,6-7", files: [:]).threadCount == 6)
    for text in ["", "a", "5-3", "-", "0-99999999999", "99999999"] {
      #expect(try limits(allowed: text, files: [:]).allowedCount == 8, "\(text)")
    }
  }

  @Test(arguments: [
    // Version 2: a group, one around it, the root of a container, beside version 1.
    ["proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"],
    [
      "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
      "sys/fs/cgroup/a/cpu.max": "250000 100000\n", "sys/fs/cgroup/other/cpu.max": "1000 100000\n",
    ],
    [
      "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "125000 50000\n",
      "sys/fs/cgroup/a/cpu.max": "1000 100000\n",
    ],
    ["proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"],
    [
      "proc/self/cgroup": "3:cpuset:/z\n0::/a\n",
      "sys/fs/cgroup/unified/a/cpu.max": "250000 100000\n",
    ],
    // Version 1: its own names, a path that only the host knows, a shared hierarchy.
    [
      "proc/self/cgroup": "4:cpu,cpuacct:/a:b\n2:memory:/\n",
      "sys/fs/cgroup/cpu,cpuacct/a:b/cpu.cfs_quota_us": "250000\n",
      "sys/fs/cgroup/cpu,cpuacct/a:b/cpu.cfs_period_us": "100000\n",
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    ],
    [
      "proc/self/cgroup": "4:cpu:/docker/0123\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    ],
  ])
  func honoursControlGroups(files: [String: String]) throws {
    let limited = try limits(files: files.merging(siblings("core_cpus_list")) { $1 })
    #expect(limited.groupLimit == 2.5 && limited.threadCount == 3)
    #expect(limited.reason == "the control group's limit is 2.50 processors")
  }

  @Test(arguments: [("1000 100000", 1), ("400000 100000", 4), ("90000000 100000", 8)])
  func limitsRoundUpAndNeverAdd(limit: String, threads: Int) throws {
    let files = ["proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": limit]
    #expect(try limits(files: files).threadCount == threads)
  }

  @Test(arguments: [
    "max 100000", "0 100000", "1 0", "-5 10", "5", "a b", "1 2 3", "",
    "99999999999999999999 100000",
  ])
  func whatIsNoLimitIsNone(text: String) throws {
    for cgroup in ["0::/\n", "0:\n:::\nx", "4:cpu:/"] {
      let files = ["proc/self/cgroup": cgroup, "sys/fs/cgroup/cpu.max": text]
      #expect(try limits(files: files).groupLimit == nil)
    }
  }

  @Test func thisMachineIsConsistent() {
    let here = ProcessorLimits.current
    #expect((1...here.allowedCount).contains(here.coreCount))
    #expect((1...here.processorCount).contains(here.allowedCount))
    #expect((1...here.coreCount).contains(here.threadCount))
  }
}
