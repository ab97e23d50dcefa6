import NIOCore
import NIOHTTPTypes
import Synchronization

/// Watches a connection: closes it when the client leaves, even if only in one direction, when it takes
/// too long over a request or sends far too much of one, or does not read what it asked for. Of a request that is answered before it
/// has arrived, the rest is thrown away: a client that writes before it reads would never see the answer.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  private let deadline: TimeAmount
  private let byteLimit: Int
  private let stallLimit: TimeAmount
  private var timer: Scheduled<Void>?
  private var stallTimer: Scheduled<Void>?
  private var byteCount = 0
  /// Whether there is more to come of the request, and whether it has been answered all the same.
  private var isReceiving = false
  private var isDraining = false
  /// Told when the connection is closed.
  let departure = Departure()

  /// - Parameters:
  ///   - deadline: from a request's head to its end.
  ///   - byteLimit: of a request's body; somewhat more than is answered with a refusal.
  ///   - stallLimit: for which a client may leave no room for more of an answer.
  init(deadline: TimeAmount, byteLimit: Int, stallLimit: TimeAmount) {
    self.deadline = deadline
    self.byteLimit = byteLimit
    self.stallLimit = stallLimit
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head:
      (byteCount, isReceiving, isDraining) = (0, true, false)
      let channel = context.channel
      timer = context.eventLoop.scheduleTask(in: deadline) { channel.close(promise: nil) }
    case .body(let bytes):
      byteCount += bytes.readableBytes
      if byteCount > byteLimit { return context.close(promise: nil) }
      if isDraining { return }
    case .end:
      (isReceiving, isDraining) = (false, false)
      timer?.cancel()
    }
    context.fireChannelRead(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.fireChannelReadComplete()
    // Nobody else asks for it.
    if isDraining { context.read() }
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let isEnd = if case .end = unwrapOutboundIn(data) { true } else { false }
    context.write(data, promise: promise)
    if isEnd, isReceiving {
      isDraining = true
      context.read()
    }
  }

  /// An answer that cannot be written does not end, so that its connection never counts as idle.
  func channelWritabilityChanged(context: ChannelHandlerContext) {
    stallTimer?.cancel()
    stallTimer = nil
    let channel = context.channel
    if !channel.isWritable {
      stallTimer = context.eventLoop.scheduleTask(in: stallLimit) { channel.close(promise: nil) }
    }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .some(ChannelEvent.inputClosed) = event as? ChannelEvent {
      context.close(promise: nil)
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    stallTimer?.cancel()
    departure.happened()
    context.fireChannelInactive()
  }
}

/// Tells the request that a connection carries when the client has left.
final class Departure: Sendable {
  private let state = Mutex<(hasHappened: Bool, action: (@Sendable () -> Void)?)>((false, nil))

  func happened() {
    let action = state.withLock { state in
      defer { state = (true, nil) }
      return state.action
    }
    action?()
  }

  /// Does `action` when it happens, at once if it has; in place of the action before.
  func act(_ action: (@Sendable () -> Void)?) {
    let isLate = state.withLock { state in
      if !state.hasHappened { state.action = action }
      return state.hasHappened
    }
    if isLate { action?() }
  }
}
