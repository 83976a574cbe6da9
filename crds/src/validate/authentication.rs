//! How a source proves who it is, and whom it trusts.

use super::storage::secret_ref;
use super::{Errors, Path};
use crate::job::{Authentication, SaslMechanism, Tls};
use crate::spec::{AuthenticationSpec, AuthenticationType, TlsSpec};

pub(super) fn tls(tls: &TlsSpec, at: &Path, errors: &mut Errors) -> Option<Tls> {
    let mut trusted_certificates = Some(Vec::new());
    for (at, spec) in at.each("trustedCertificates", &tls.trusted_certificates) {
        let certificate = secret_ref(&spec.secret_name, "secretName", &spec.certificate, "certificate", &at, errors);
        match (&mut trusted_certificates, certificate) {
            (Some(list), Some(certificate)) => list.push(certificate),
            _ => trusted_certificates = None,
        }
    }
    Some(Tls { trusted_certificates: trusted_certificates? })
}

/// Validates the authentication; `has_tls`: the source has the field `tls`.
pub(super) fn authentication(
    spec: &AuthenticationSpec,
    has_tls: bool,
    at: &Path,
    errors: &mut Errors,
) -> Option<Authentication> {
    let mechanism = match spec.kind {
        AuthenticationType::Plain => SaslMechanism::Plain,
        AuthenticationType::ScramSha256 => SaslMechanism::ScramSha256,
        AuthenticationType::ScramSha512 => SaslMechanism::ScramSha512,
        AuthenticationType::Tls => return client_certificate(spec, has_tls, at, errors),
    };
    if spec.certificate_and_key.is_some() {
        let fix = "remove it, or write `type: tls`";
        errors.add(&at.field("certificateAndKey"), None, "this type has a user name and a password", fix);
    }
    let username = spec.username.as_ref().map(ToString::to_string).filter(|name| !name.is_empty());
    if username.is_none() {
        errors.add(&at.field("username"), None, "is missing", "add the user's name");
    }
    let Some(secret) = &spec.password_secret else {
        let fix = "add `passwordSecret: {secretName: …, password: …}`, where password is the key in the Secret";
        errors.add(&at.field("passwordSecret"), None, "is missing", fix);
        return None;
    };
    let at = at.field("passwordSecret");
    let password = secret_ref(&secret.secret_name, "secretName", &secret.password, "password", &at, errors)?;
    Some(Authentication::Sasl { mechanism, username: username?, password })
}

fn client_certificate(
    spec: &AuthenticationSpec,
    has_tls: bool,
    at: &Path,
    errors: &mut Errors,
) -> Option<Authentication> {
    if !has_tls {
        let problem = "a client certificate is shown over TLS only";
        errors.add(&at.field("type"), Some("tls"), problem, "add `tls: {}`, or `tls: {trustedCertificates: […]}`");
    }
    if spec.username.is_some() || spec.password_secret.is_some() {
        errors.add(at, None, "a certificate has no user name and no password", "remove username and passwordSecret");
    }
    let Some(secret) = &spec.certificate_and_key else {
        let fix = "add `certificateAndKey: {secretName: …, certificate: user.crt, key: user.key}`";
        errors.add(&at.field("certificateAndKey"), None, "is missing", fix);
        return None;
    };
    let at = at.field("certificateAndKey");
    let certificate = secret_ref(&secret.secret_name, "secretName", &secret.certificate, "certificate", &at, errors)?;
    let key = secret_ref(&secret.secret_name, "secretName", &secret.key, "key", &at, errors)?;
    Some(Authentication::Tls { certificate, key })
}
