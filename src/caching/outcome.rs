//! The outcome of a request: the one closed list of reasons, and `Cache-Status` (RFC 9211).
//!
//! Cache-Status, the access log, the metrics and `forebay explain` all read this list and no other.

/// Why a request was answered, forwarded, not stored or refused the way it was.
///
/// The list is closed: each reason has a code (metric label, Cache-Status `detail`, log field,
/// README anchor), the section of the RFC behind it, and one line that says what a user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    // Forwarded without a look-up.
    RouteNotCached,
    MethodNotCacheable,
    RequestHasBody,
    RequestUpgrade,
    CookieBypass,
    RequestNoStore,
    KeyTooLong,
    // Looked up and not reused as it is.
    NothingStored,
    NoVariantMatches,
    Stale,
    MustValidate,
    RequestWantsValidation,
    RequestWantsFresher,
    Purged,
    CookieGuard,
    AuthorizationNotShared,
    HeadOnly,
    PartMissing,
    HitForMiss,
    EarlyRefresh,
    OnlyIfCached,
    ClientReload,
    // Not stored.
    NoStore,
    Private,
    StatusNotUnderstood,
    StatusNotCacheable,
    NoFreshness,
    AlreadyStale,
    Authorization,
    SetCookie,
    VaryAny,
    TooManyVariants,
    TooLarge,
    TooManyTags,
    Incomplete,
    RequestMethod,
    ReflectsRequest,
    PartNotStorable,
    TtlZero,
    // Answered stale.
    StaleWhileRevalidate,
    StaleIfError,
    StaleOnTimeout,
    // Failures and refusals.
    OriginConnect,
    OriginTls,
    OriginFirstByteTimeout,
    OriginBetweenBytesTimeout,
    OriginReset,
    OriginProtocol,
    OriginBusy,
    OriginError,
    CollapseTimeout,
    BadRequest,
    HeadTooLarge,
    TargetTooLong,
    BodyTooLarge,
    RequestTimeout,
    MethodRefused,
    NoRoute,
    ClientGone,
    Draining,
    Internal,
}
