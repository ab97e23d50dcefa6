import Glibc

/// Tells addresses of the public Internet from those that a request must not make the server call: of
/// this machine, of private networks and of special purposes (IANA's registries of special-purpose
/// addresses, RFC 6890).
enum PublicAddress {
  static func contains(_ address: UnsafePointer<sockaddr>) -> Bool {
    switch Int32(address.pointee.sa_family) {
    case AF_INET:
      return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        contains(UInt32(bigEndian: $0.pointee.sin_addr.s_addr))
      }
    case AF_INET6:
      return address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
        withUnsafeBytes(of: $0.pointee.sin6_addr) { contains(Array($0)) }
      }
    default: return false
    }
  }

  /// - Parameter address: of IP version 4.
  static func contains(_ address: UInt32) -> Bool {
    !special.contains { address >> (32 - $0.length) == $0.prefix >> (32 - $0.length) }
  }

  /// - Parameter address: the 16 bytes of one of IP version 6.
  static func contains(_ address: [UInt8]) -> Bool {
    func starts(_ bytes: UInt8...) -> Bool { address.starts(with: bytes) }
    let last = address.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    // IPv4 in other clothes: mapped, and translated (RFC 6052).
    if starts(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF) { return contains(last) }
    if starts(0, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0) { return contains(last) }
    // Of what is given out at all: protocols and tunnels (2001::/23, 2002::/16), documentation.
    let isProtocol = starts(0x20, 0x01) && address[2] < 2
    let isDocumentation =
      starts(0x20, 0x01, 0x0D, 0xB8) || starts(0x3F, 0xFF) && address[2] < 16
    return address[0] >> 5 == 1 && !isProtocol && !isDocumentation && !starts(0x20, 0x02)
  }

  private static let special: [(prefix: UInt32, length: UInt32)] = [
    (0x0000_0000, 8), (0x0A00_0000, 8), (0x6440_0000, 10), (0x7F00_0000, 8), (0xA9FE_0000, 16),
    (0xAC10_0000, 12), (0xC000_0000, 24), (0xC000_0200, 24), (0xC058_6300, 24),
    (0xC0A8_0000, 16), (0xC612_0000, 15), (0xC633_6400, 24), (0xCB00_7100, 24),
    (0xE000_0000, 3),  // multicast, reserved and broadcast
  ]
}
