//! What went wrong in a store, told apart by what has to happen next, in words that say it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

/// What a fault of a store means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The store is away, slow or overloaded; the same request may work later.
    Unavailable,
    /// The credentials are missing, wrong or may not do this.
    Denied,
    /// There is no such bucket.
    BucketMissing,
    /// The disk or the store is full, or a quota is used up.
    NoSpace,
    /// The object is not there; the bucket is.
    NotFound,
    /// The user's to mend otherwise: a wrong endpoint, region, certificate or name.
    Misconfigured,
    /// Anything else: a fault of ours or of a library.
    Other,
}

/// A fault of a store: what it means, and one line that says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreFault {
    /// What it means.
    pub kind: FaultKind,
    /// One line for the user.
    pub message: String,
}

/// Tells what an error of a store means.
pub fn classify(error: &object_store::Error) -> StoreFault {
    let answer = Answer::read(error);
    if let Some(fault) = answer.ours {
        return fault;
    }
    if let (Some((io_kind, words)), None, None) = (&answer.io, answer.transport, answer.status) {
        let path = match error {
            // Its words do not name the file, those of the other errors do.
            object_store::Error::NotFound { path, .. } => path.as_str(),
            _ => "",
        };
        return io_fault(io_fault_kind(*io_kind), words, path);
    }
    let kind = answer.kind(error);
    StoreFault { kind, message: answer.message(kind) }
}

/// Tells what an error of the local disk at `path` means.
pub fn classify_io(error: &io::Error, path: &str) -> StoreFault {
    io_fault(io_fault_kind(error.kind()), &error.to_string(), path)
}

/// The fault of a request that took longer than `what` may.
pub(crate) fn too_slow(what: &str, limit: std::time::Duration) -> StoreFault {
    StoreFault { kind: FaultKind::Unavailable, message: format!("{what} got no answer within {} s", limit.as_secs()) }
}

fn io_fault_kind(kind: io::ErrorKind) -> FaultKind {
    use io::ErrorKind as K;
    match kind {
        K::StorageFull | K::QuotaExceeded => FaultKind::NoSpace,
        K::PermissionDenied | K::ReadOnlyFilesystem => FaultKind::Denied,
        K::NotFound => FaultKind::NotFound,
        K::NotADirectory | K::IsADirectory | K::InvalidFilename => FaultKind::Misconfigured,
        K::StaleNetworkFileHandle | K::TimedOut => FaultKind::Unavailable,
        _ => FaultKind::Other,
    }
}

fn io_fault(kind: FaultKind, words: &str, path: &str) -> StoreFault {
    let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let advice = match kind {
        FaultKind::NoSpace => "; free some space, it goes on by itself",
        FaultKind::Denied => "; give this user the right to write there, or choose another path",
        FaultKind::Misconfigured => "; choose a path that can be a folder",
        _ => "",
    };
    StoreFault { kind, message: format!("{at}{words}{advice}") }
}

/// What can be read out of an error of the object store library, whose own types for it are private: their text
/// carries the request, the HTTP status and the store's XML.
#[derive(Default)]
struct Answer {
    /// A fault of ours that travelled through the library.
    ours: Option<StoreFault>,
    /// An error of the local disk.
    io: Option<(io::ErrorKind, String)>,
    /// A connection's failure.
    transport: Option<HttpErrorKind>,
    /// `PUT http://…`, where known.
    request: Option<String>,
    status: Option<u16>,
    /// The store's code, such as `NoSuchBucket`.
    code: Option<String>,
    /// The store's words.
    words: Option<String>,
    /// The whole text, and that of the innermost cause.
    text: String,
    innermost: String,
}

impl Answer {
    fn read(error: &object_store::Error) -> Self {
        let mut answer = Self { text: error.to_string(), ..Self::default() };
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(cause) = next {
            if let Some(fault) = cause.downcast_ref::<StoreFault>() {
                answer.ours = Some(fault.clone());
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                answer.io.get_or_insert((io.kind(), io.to_string()));
            }
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                answer.transport.get_or_insert(http.kind());
            }
            answer.innermost = cause.to_string();
            next = cause.source();
        }
        let text = &answer.text;
        answer.request = between(text, "Error performing ", " in ").map(str::to_owned);
        answer.status = after(text, "status code: ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        answer.code = between(text, "<Code>", "</Code>").or_else(|| between(text, "(code: ", ")")).map(str::to_owned);
        answer.words = between(text, "<Message>", "</Message>").map(str::to_owned);
        answer
    }

    fn kind(&self, error: &object_store::Error) -> FaultKind {
        if let Some(kind) = self.code.as_deref().and_then(kind_of_code) {
            return kind;
        }
        if self.asks_instance_metadata() {
            return FaultKind::Denied;
        }
        if self.transport.is_some() {
            let tls = ["certificate", "InvalidContentType"].iter().any(|words| self.innermost.contains(words));
            return if tls { FaultKind::Misconfigured } else { FaultKind::Unavailable };
        }
        if self.text.contains("redirect without LOCATION") {
            return FaultKind::Misconfigured;
        }
        match (self.status, error) {
            (Some(507), _) => FaultKind::NoSpace,
            (Some(401 | 403), _) => FaultKind::Denied,
            (Some(408 | 429 | 500..=599), _) => FaultKind::Unavailable,
            (Some(300..=399), _) => FaultKind::Misconfigured,
            (_, object_store::Error::NotFound { .. }) => FaultKind::NotFound,
            (_, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                FaultKind::Denied
            }
            (_, object_store::Error::InvalidPath { .. }) => FaultKind::Misconfigured,
            _ => FaultKind::Other,
        }
    }

    /// Without credentials the library asks the cloud's metadata service for some, whose failure says nothing to a
    /// user on a laptop.
    fn asks_instance_metadata(&self) -> bool {
        self.request.as_deref().is_some_and(|request| request.contains("//169.254."))
    }

    fn message(&self, kind: FaultKind) -> String {
        if self.asks_instance_metadata() {
            return "no credentials for the store: set storage.s3.credentialsSecret, or AWS_ACCESS_KEY_ID and \
                    AWS_SECRET_ACCESS_KEY, or give the machine or service account a role"
                .to_owned();
        }
        let advice = match kind {
            FaultKind::Unavailable if self.transport.is_some() => {
                "; is the store running, and storage.s3.endpoint right?"
            }
            FaultKind::Denied => self.denied_advice(),
            FaultKind::BucketMissing => "; create the bucket or correct its name",
            FaultKind::NoSpace => "; free some space or raise the quota, it goes on by itself",
            FaultKind::Misconfigured if self.innermost.contains("certificate") => {
                "; name its certificate authority in storage.s3.caSecret"
            }
            FaultKind::Misconfigured if self.transport.is_some() => {
                "; is it http:// instead of https:// in storage.s3.endpoint?"
            }
            FaultKind::Misconfigured => "; check storage.s3.region and storage.s3.endpoint",
            FaultKind::Unavailable | FaultKind::NotFound | FaultKind::Other => "",
        };
        format!("{}{advice}", self.what())
    }

    /// What the store or the connection said, to which request.
    fn what(&self) -> String {
        let request = self.request.as_deref().map(|request| format!(" ({request})")).unwrap_or_default();
        match (&self.code, &self.words, self.transport, self.status) {
            (Some(code), Some(words), ..) => format!("{code}: {}{request}", words.trim_end_matches('.')),
            (Some(code), None, ..) => format!("{code}{request}"),
            (None, _, Some(kind), _) => format!("{}: {}{request}", Transport(kind), self.innermost),
            (None, _, None, Some(status)) => format!("the store answered {status}{request}"),
            (None, _, None, None) => self.text.clone(),
        }
    }

    fn denied_advice(&self) -> &'static str {
        match self.code.as_deref() {
            Some("InvalidAccessKeyId") => "; the access key is not known there, correct the credentials",
            Some("SignatureDoesNotMatch") => "; the secret key does not fit the access key, correct the credentials",
            Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => "; renew the credentials",
            Some("RequestTimeTooSkewed") => "; set this machine's clock",
            _ => "; grant the credentials reading, writing, listing and deleting there",
        }
    }
}

struct Transport(HttpErrorKind);

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            HttpErrorKind::Connect => "no connection",
            HttpErrorKind::Timeout => "no answer in time",
            _ => "the connection broke",
        })
    }
}

fn kind_of_code(code: &str) -> Option<FaultKind> {
    let kind = match code {
        "NoSuchBucket" => FaultKind::BucketMissing,
        "NoSuchKey" => FaultKind::NotFound,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "NotSignedUp" => FaultKind::Denied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "InternalError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "Busy"
        | "OperationAborted"
        | "XMinioServerNotInitialized" => FaultKind::Unavailable,
        "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded" => FaultKind::NoSpace,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "InvalidBucketName"
        | "IllegalLocationConstraintException"
        | "InvalidRegion" => FaultKind::Misconfigured,
        _ => return None,
    };
    Some(kind)
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    after(text, from)?.split_once(to).map(|(inside, _)| inside)
}
