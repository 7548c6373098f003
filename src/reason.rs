//! Why a request was allowed or refused: one stable code for each rule, for logs, metrics and documents. A client never sees it, unless
//! `display_errors` says so.

use std::ops::RangeInclusive;

/// What a refusal looks like to the client (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request goes on.
    Allow,
    /// 401, a challenge without an error: no credentials came.
    Challenge,
    /// 400 `invalid_request`
    InvalidRequest,
    /// 400 without a challenge: what came back from a login, or credentials, cannot be used.
    BadRequest,
    /// 401 `invalid_token`
    InvalidToken,
    /// 401 `invalid_dpop_proof` (RFC 9449 §7.1)
    InvalidProof,
    /// 401 `use_dpop_nonce`, with a nonce (RFC 9449 §9)
    UseNonce,
    /// 302: a browser goes on elsewhere
    Redirect,
    /// 403 `insufficient_scope`
    InsufficientScope,
    /// 403 without a challenge: no other token would do.
    Forbidden,
    /// 425: the handshake is not complete (RFC 8470 §5.2)
    TooEarly,
    /// 500: keybound itself failed
    Internal,
    /// 503 with `Retry-After`: the token may be good, and that cannot be told now
    Unavailable,
}

impl Answer {
    /// The HTTP status; 0 for [`Answer::Allow`].
    pub fn status(self) -> u16 {
        match self {
            Answer::Allow => 0,
            Answer::Redirect => 302,
            Answer::InvalidRequest | Answer::BadRequest => 400,
            Answer::Challenge | Answer::InvalidToken | Answer::InvalidProof | Answer::UseNonce => 401,
            Answer::InsufficientScope | Answer::Forbidden => 403,
            Answer::TooEarly => 425,
            Answer::Internal => 500,
            Answer::Unavailable => 503,
        }
    }

    /// The `error` of the challenge.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Answer::InvalidRequest => Some("invalid_request"),
            Answer::InvalidToken => Some("invalid_token"),
            Answer::InvalidProof => Some("invalid_dpop_proof"),
            Answer::UseNonce => Some("use_dpop_nonce"),
            Answer::InsufficientScope => Some("insufficient_scope"),
            Answer::Allow
            | Answer::Redirect
            | Answer::BadRequest
            | Answer::Challenge
            | Answer::Forbidden
            | Answer::TooEarly
            | Answer::Internal
            | Answer::Unavailable => None,
        }
    }

    /// Whether the answer has a `WWW-Authenticate`.
    pub fn challenges(self) -> bool {
        self == Answer::Challenge || self.error().is_some()
    }
}

macro_rules! reasons {
    ($($variant:ident = $number:literal $code:literal $answer:ident $meaning:literal)*) => {
        /// The rule that decided. Numbers and codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $meaning] $variant = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The numbers of [`Reason::is_binding`]: of certificates and of proofs.
            const BINDING: [RangeInclusive<u32>; 2] = [60..=79, 130..=159];

            /// Its place in [`Reason::ALL`].
            pub(crate) fn place(self) -> usize {
                // In the order of the declaration, whatever the numbers are.
                #[repr(usize)]
                enum Place { $($variant,)* }
                match self { $(Reason::$variant => Place::$variant as usize,)* }
            }

            /// The stable code that is logged.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }

            /// `code` with a NUL behind it, for C.
            #[cfg(feature = "capi")]
            pub(crate) fn code_c(self) -> &'static std::ffi::CStr {
                match self {
                    $(Reason::$variant => const {
                        match std::ffi::CStr::from_bytes_with_nul(concat!($code, "\0").as_bytes()) {
                            Ok(code) => code,
                            Err(_) => c"",
                        }
                    },)*
                }
            }

            /// What it means and where to look, for an operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => $meaning,)* }
            }

            /// Whether the request did not prove possession: who sent it must not pass for anonymous either.
            pub fn is_binding(self) -> bool {
                Self::BINDING.iter().any(|range| range.contains(&(self as u32)))
            }

            /// What the client gets.
            pub fn answer(self) -> Answer {
                match self { $(Reason::$variant => Answer::$answer,)* }
            }
        }
    };
}

reasons! {
    Allowed = 1 "allowed" Allow "The token is valid, and bound as the configuration demands."

    NoToken = 10 "no_token" Challenge "There is no `Authorization` header with the scheme `Bearer`, or, where proofs are taken, `DPoP`."
    MalformedAuthorization = 11 "malformed_authorization" InvalidRequest "The `Authorization` header is not `Bearer`, or `DPoP`, and one token (RFC 6750 §2.1, RFC 9449 §7.1)."
    SeveralTokens = 12 "several_tokens" InvalidRequest "More than one `Authorization` header, or a second token in the query (RFC 6750 §2)."
    DuplicateHeader = 13 "duplicate_header" InvalidRequest "A header that may come once came more than once, and the host refused that itself."

    TokenTooLarge = 20 "token_too_large" InvalidToken "The token has more than 8192 bytes."
    TokenNotJwt = 21 "token_not_jwt" InvalidToken "The token is not a compact JWS: three parts of canonical base64url."
    TokenEncrypted = 22 "token_encrypted" InvalidToken "The token has five parts: encrypted tokens are not supported."
    TokenNested = 23 "token_nested" InvalidToken "The JOSE header has `cty`: a token inside a token is not supported."
    HeaderMalformed = 24 "header_malformed" InvalidToken "The JOSE header is not strict JSON, or a member has the wrong type."
    HeaderCritical = 25 "header_critical" InvalidToken "The JOSE header has `crit`, or a `b64` that is not true (RFC 7515 §4.1.11)."
    AlgorithmRefused = 26 "algorithm_refused" InvalidToken "`alg` is not one of the configured `algorithms`."
    TypeRefused = 27 "type_refused" InvalidToken "`typ` is not one of the configured `token_types` (RFC 9068 §4)."
    KeyUnknown = 28 "key_unknown" InvalidToken "No key of the issuer fits `kid` and `alg`, or too many do."
    SignatureInvalid = 29 "signature_invalid" InvalidToken "The signature is not that of the issuer's key: the token was changed or made by somebody else."

    ClaimsMalformed = 40 "claims_malformed" InvalidToken "The claims are not strict JSON, or a claim that is checked has the wrong type."
    ClaimMissing = 41 "claim_missing" InvalidToken "A required claim is absent (`claims_required`, RFC 9068 §2.2)."
    IssuerMismatch = 42 "issuer_mismatch" InvalidToken "`iss` is not the configured issuer, character by character."
    AudienceMismatch = 43 "audience_mismatch" InvalidToken "`aud` does not hold what `audience_required` asks for."
    TokenExpired = 44 "token_expired" InvalidToken "`exp` is reached."
    TokenNotYetValid = 45 "token_not_yet_valid" InvalidToken "`nbf` is in the future; compare the clocks."
    TokenIssuedInFuture = 46 "token_issued_in_future" InvalidToken "`iat` is more than 60 seconds in the future; compare the clocks."
    NotAnAccessToken = 47 "not_an_access_token" InvalidToken "A claim of `claims_forbidden` is there, or a token without the type `at+jwt` does not look like an access token (`token_types`)."

    TokenInactive = 48 "token_inactive" InvalidToken "The authorization server says that the token is not active: it is expired, revoked or unknown there (RFC 7662 §2.2)."

    TokenUnbound = 60 "token_unbound" InvalidToken "The authorization server did not bind the token to a certificate, or to anything: there is no `cnf`, or no `x5t#S256` in it, where `proof_of_possession_mtls` is `strict`."
    ConfirmationMalformed = 61 "confirmation_malformed" InvalidToken "`cnf` is not an object, is empty, or `x5t#S256` or `jkt` is not 43 characters of canonical base64url; or what an introspection says of `token_type` and of `jkt` contradicts each other (RFC 9449 §6.2)."
    ConfirmationUnsupported = 62 "confirmation_unsupported" InvalidToken "`cnf` has a member that is not checked here: an unknown one, `jkt` where `proof_of_possession_dpop` is `off`, or `x5t#S256` where `proof_of_possession_mtls` is."
    CertificateMissing = 63 "certificate_missing" InvalidToken "The token is bound to a certificate, and the connection has none."
    CertificateMismatch = 64 "certificate_mismatch" InvalidToken "The token is bound to another certificate than that of the connection: a stolen token, or a renewed certificate."
    CertificateMalformed = 65 "certificate_malformed" InvalidToken "The client certificate is larger than 16 KiB, not exactly one, or its dates cannot be read."
    CertificateExpired = 66 "certificate_expired" InvalidToken "The client certificate is past its `notAfter` (`client_certificate_validity`)."
    CertificateNotYetValid = 67 "certificate_not_yet_valid" InvalidToken "The client certificate is before its `notBefore` (`client_certificate_validity`)."
    EarlyData = 68 "early_data" TooEarly "The request came in TLS 1.3 early data, which proves no key and can be replayed."
    CertificateRefused = 69 "certificate_refused" InvalidToken "The host itself refused the client certificate: nginx's status 495 or 496, handed on by `error_page`."
    SessionCertificateMissing = 70 "session_certificate_missing" InvalidToken "The session is bound to a certificate, and the connection has none; or a login that would be bound came without one."
    SessionCertificateMismatch = 71 "session_certificate_mismatch" InvalidToken "The session is bound to another certificate than that of the connection: a stolen cookie, or a renewed certificate. The browser is told to forget the cookie."

    InsufficientScope = 80 "insufficient_scope" InsufficientScope "The token lacks what `scopes_required` asks for."
    InsufficientGroups = 81 "insufficient_groups" InsufficientScope "The token lacks what `groups_required` asks for."
    InsufficientRoles = 82 "insufficient_roles" InsufficientScope "The token lacks what `roles_required` asks for."
    ConsumerNotFound = 83 "consumer_not_found" Forbidden "The gateway knows no consumer for the claims of the token (Kong: `consumer_claim`)."

    KeysUnavailable = 90 "keys_unavailable" Unavailable "The issuer's keys could not be fetched, perhaps because its metadata could not, and there are none that may still be used (`keys_max_stale`)."
    MetadataUnavailable = 91 "metadata_unavailable" Unavailable "An endpoint is needed, and the authorization server's metadata could not be fetched, is not that of the issuer, or does not name it."
    IntrospectionUnavailable = 92 "introspection_unavailable" Unavailable "The authorization server did not answer the introspection, or not as RFC 7662 and RFC 9701 say. Whether the token is good is unknown."
    ClientRefused = 93 "client_refused" Unavailable "The authorization server refused the gateway itself (`invalid_client`): look at `client_id`, its authentication method and its certificate."
    ServerUnavailable = 94 "server_unavailable" Unavailable "The token or revocation endpoint, or that for pushed authorization requests, did not answer, or not with something that can be used (RFC 6749 §5.1, RFC 9126 §2.2)."

    StoreUnavailable = 95 "store_unavailable" Unavailable "The shared store failed, and a session, a login or a proof cannot be told from one that is over or used."

    InternalError = 99 "internal_error" Internal "keybound failed; please report it with the log of that moment."

    LoginStarted = 100 "login_started" Redirect "Nobody is logged in: the browser is sent to the authorization server."
    LoginCompleted = 101 "login_completed" Redirect "A user has logged in, and is sent back to where the login began."
    LoggedOut = 102 "logged_out" Redirect "A user has logged out. 200 where there is nowhere to go on to."

    LoginStateMissing = 110 "login_state_missing" BadRequest "What came back from a login belongs to none that this browser has begun: it is from another browser, was used up, or took longer than `login_timeout`."
    LoginStateInvalid = 111 "login_state_invalid" BadRequest "The cookie of the login cannot be opened, is too old, or is that of another `state` (RFC 6749 §10.12)."
    LoginStateReused = 112 "login_state_reused" BadRequest "What came back from this login came before: a `state` is good for one code."
    LoginIssuerMismatch = 113 "login_issuer_mismatch" BadRequest "`iss` of the authorization response is not the issuer, or is missing although its metadata promises it (RFC 9207 §2.4)."
    LoginResponseMalformed = 114 "login_response_malformed" BadRequest "The authorization response has a parameter twice, too long, with control characters, or lacks one (RFC 6749 §4.1.2)."
    LoginRefused = 115 "login_refused" Forbidden "The authorization server ended the login with an error, for example because the user said no (RFC 6749 §4.1.2.1)."
    CodeRefused = 116 "code_refused" BadRequest "The token endpoint refused the authorization code: it is used, expired, or of another login (RFC 6749 §5.2)."
    IdTokenInvalid = 117 "id_token_invalid" BadRequest "The ID token is not one for this login (OpenID Connect Core 1.0 §3.1.3.7); the log says which rule it breaks."

    SessionInvalid = 120 "session_invalid" Challenge "The session cookie cannot be opened, or the session is of a method that is not configured here, of another node's future, or from before `session_bind_certificate`."
    SessionExpired = 121 "session_expired" Challenge "The session, or its access token, is over, or the user has logged out."
    SessionRefused = 122 "session_refused" Challenge "The authorization server refused to refresh the session's token: the user logged out there, or the refresh token was used before."
    CredentialsRefused = 123 "credentials_refused" Challenge "The authorization server refused the credentials or the refresh token of the request."
    CredentialsMalformed = 124 "credentials_malformed" BadRequest "The credentials of the request cannot be read (RFC 7617 §2), or came more than once."
    LogoutCrossSite = 125 "logout_cross_site" Forbidden "The request to log out came from another site."

    DpopSchemeRequired = 130 "dpop_scheme_required" InvalidToken "The token is bound to a key (`cnf.jkt`) and came with the scheme `Bearer`: without a proof it would be anybody's (RFC 9449 §7.2)."
    TokenNotDpopBound = 131 "token_not_dpop_bound" InvalidToken "The token came with the scheme `DPoP`, or `proof_of_possession_dpop` is `strict`, and it is not bound to a key: there is no `cnf.jkt` (RFC 9449 §7.2)."
    ProofMissing = 132 "proof_missing" InvalidProof "The token came with the scheme `DPoP`, and there is no `DPoP` header with a proof (RFC 9449 §7.1)."
    ProofRepeated = 133 "proof_repeated" InvalidProof "There is more than one `DPoP` header (RFC 9449 §4.3, check 1)."
    ProofMalformed = 134 "proof_malformed" InvalidProof "The proof is not one compact JWS of at most 4096 bytes in strict JSON, or `jti`, `htm`, `htu`, `iat` or `ath` is missing, too long or of the wrong type, or `nonce` is; or its header has no `alg`, or `crit`, `cty` or `b64` (checks 2 and 3)."
    ProofTypeRefused = 135 "proof_type_refused" InvalidProof "The `typ` of the proof is not `dpop+jwt`: something else was sent as a proof (check 4)."
    ProofAlgorithmRefused = 136 "proof_algorithm_refused" InvalidProof "The `alg` of the proof is not one of `dpop_algorithms` (check 5)."
    ProofSignatureInvalid = 137 "proof_signature_invalid" InvalidProof "The signature of the proof is not that of the key in its `jwk` (check 6)."
    ProofKeyRefused = 138 "proof_key_refused" InvalidProof "The `jwk` of the proof is missing, holds a private member, or is no usable public key for its `alg` (check 7)."
    ProofMethodMismatch = 139 "proof_method_mismatch" InvalidProof "`htm` is not the method of the request, letter by letter (check 8)."
    ProofUriMismatch = 140 "proof_uri_mismatch" InvalidProof "`htu` is not the public URI of the request without query and fragment (check 9): look at `public_origin`, `public_path_prefix` and `trusted_ips`."
    ProofNonceMissing = 141 "proof_nonce_missing" UseNonce "The proof has no `nonce`, and `dpop_use_nonce` asks for one; the client gets one and tries again (check 10)."
    ProofNonceInvalid = 142 "proof_nonce_invalid" UseNonce "The `nonce` of the proof is too old, or was not made with `dpop_nonce_secret`; the client gets another one and tries again (check 10)."
    ProofExpired = 143 "proof_expired" InvalidProof "The proof is older than `dpop_proof_lifetime`; compare the clocks (check 11)."
    ProofIssuedInFuture = 144 "proof_issued_in_future" InvalidProof "`iat` of the proof is more than `dpop_proof_leeway` in the future; compare the clocks (check 11)."
    ProofTokenMismatch = 145 "proof_token_mismatch" InvalidProof "`ath` is not the hash of the access token: the proof was made for another one (check 12)."
    ProofKeyMismatch = 146 "proof_key_mismatch" InvalidToken "The key of the proof is not the one that the token is bound to: a stolen token, or a new key (check 12)."
    ProofReplayed = 147 "proof_replayed" InvalidProof "The proof was used before: each is good for one request (RFC 9449 §11.1)."
    ProofOverPlainHttp = 148 "proof_over_plain_http" InvalidProof "The request came over plain HTTP, and not from one of `trusted_ips` that says it was TLS (RFC 9449 §2)."
}

/// `docs/reasons.md`, generated.
pub fn document() -> String {
    let mut text = String::from(
        "# Reasons\n\n\
         Each decision has one reason. The reason of a refusal is logged, and not sent to the client, who sees only the status and the\n\
         `error` of RFC 6750 or RFC 9449, unless `display_errors` is set. Codes and numbers do not change and are not used again. This file is\n\
         generated from `src/reason.rs` (`make docs`).\n\n\
         Numbers from 60 to 79 and from 130 to 159 are those of requests that did not prove possession: whoever lets refused requests through as anonymous\n\
         must not do it with these (`kb_reason_is_binding()`; in Lua `binding`).\n\n\
         | code | number | status | `error` | meaning |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
        let answer = reason.answer();
        let status = match answer {
            Answer::Allow => "(allowed)".to_owned(),
            _ => answer.status().to_string(),
        };
        let error = answer.error().map_or_else(String::new, |e| format!("`{e}`"));
        text.push_str(&format!(
            "| `{}` | {} | {status} | {error} | {} |\n",
            reason.code(),
            *reason as u32,
            reason.meaning()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_unique_and_fit_a_log_field() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(a.place(), i);
            assert!(a.code().bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
            #[cfg(feature = "capi")]
            assert_eq!(a.code_c().to_str(), Ok(a.code()));
            for b in &Reason::ALL[..i] {
                assert!(a.code() != b.code() && (*a as u32) > (*b as u32));
            }
        }
    }

    #[test]
    fn the_reasons_of_the_binding_are_these() {
        let binding: Vec<&str> = Reason::ALL.iter().filter(|r| r.is_binding()).map(|r| r.code()).collect();
        assert_eq!(
            binding,
            [
                "token_unbound",
                "confirmation_malformed",
                "confirmation_unsupported",
                "certificate_missing",
                "certificate_mismatch",
                "certificate_malformed",
                "certificate_expired",
                "certificate_not_yet_valid",
                "early_data",
                "certificate_refused",
                "session_certificate_missing",
                "session_certificate_mismatch",
                "dpop_scheme_required",
                "token_not_dpop_bound",
                "proof_missing",
                "proof_repeated",
                "proof_malformed",
                "proof_type_refused",
                "proof_algorithm_refused",
                "proof_signature_invalid",
                "proof_key_refused",
                "proof_method_mismatch",
                "proof_uri_mismatch",
                "proof_nonce_missing",
                "proof_nonce_invalid",
                "proof_expired",
                "proof_issued_in_future",
                "proof_token_mismatch",
                "proof_key_mismatch",
                "proof_replayed",
                "proof_over_plain_http",
            ]
        );
    }

    #[test]
    fn rfc6750_3_b_a_challenge_goes_with_400_401_and_a_scope_that_is_missing() {
        for reason in Reason::ALL {
            let status = reason.answer().status();
            let silent = matches!(reason.answer(), Answer::BadRequest | Answer::Forbidden);
            let expected = matches!(status, 400 | 401 | 403) && !silent;
            assert_eq!(reason.answer().challenges(), expected, "{}", reason.code());
        }
        assert_eq!(Reason::ConsumerNotFound.answer().status(), 403);
    }

    #[test]
    fn only_allowed_has_no_status() {
        for reason in Reason::ALL {
            assert_eq!(reason.answer().status() == 0, *reason == Reason::Allowed);
        }
    }
}
