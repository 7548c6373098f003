//! What the client gets that is not let through: redirects, pages for people, JSON for programs.

use zeroize::Zeroizing;

use super::visit::Visit;
use crate::engine::Engine;
use crate::engine::respond::HTML;
use crate::reason::{Answer, Reason};
use crate::steps::{Refusal, Response};

/// What all answers of logins have: nobody keeps them, and nobody learns from where the browser came (RFC 9700 §4.2.4).
fn headers(cookies: Vec<String>) -> Vec<(&'static str, String)> {
    let cookies = cookies.into_iter().map(|cookie| ("set-cookie", cookie));
    [("cache-control", "no-store".to_owned()), ("referrer-policy", "no-referrer".to_owned())]
        .into_iter()
        .chain(cookies)
        .collect()
}

/// An answer that is no refusal, with nothing in it yet.
pub(super) fn answer(reason: Reason, status: u16, cookies: Vec<String>) -> Response {
    Response {
        reason,
        status,
        www_authenticate: None,
        retry_after: None,
        content_type: HTML,
        body: "".into(),
        headers: headers(cookies),
    }
}

/// Sends the browser on.
pub(super) fn redirect(reason: Reason, location: String, cookies: Vec<String>) -> Refusal {
    let mut response = answer(reason, 302, cookies);
    response.headers.push(("location", location));
    response.into()
}

impl From<Response> for Refusal {
    fn from(response: Response) -> Refusal {
        Refusal { reason: response.reason, detail: None, response: Some(Box::new(response)) }
    }
}

impl Engine {
    /// A refusal whose client needs its next refresh token all the same: the one that it sent is used up.
    pub(super) fn with_refresh_token(&self, refusal: Refusal, token: Option<&Zeroizing<String>>) -> Refusal {
        let Some(token) = token else {
            return refusal;
        };
        let mut response = self.response(refusal.reason).clone();
        response.headers = headers(Vec::new());
        response.headers.push(("refresh-token", String::clone(token)));
        Refusal { response: Some(Box::new(response)), ..refusal }
    }

    /// The answer of a refusal, for this client: a page for a person, and with these cookies.
    pub(super) fn dress(&self, refusal: Refusal, visit: &Visit, cookies: Vec<String>) -> Refusal {
        if refusal.response.is_some() || (cookies.is_empty() && !visit.is_page()) {
            return refusal;
        }
        let mut response = self.response_to(visit.scheme, refusal.reason).clone();
        response.headers = headers(cookies);
        if visit.is_page() {
            page(&mut response, refusal.reason, self.display_errors);
        }
        Refusal { response: Some(Box::new(response)), ..refusal }
    }
}

/// Makes a page of an answer.
pub(super) fn page(response: &mut Response, reason: Reason, tells_reason: bool) {
    let (title, text) = words(reason);
    let told = if tells_reason { format!("<p><code>{}</code></p>", reason.code()) } else { String::new() };
    response.content_type = HTML;
    response.body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title></head><body><h1>{title}</h1><p>{text}</p>{told}</body></html>\n"
    )
    .into();
    // No script, no frame, nothing from elsewhere.
    response.headers.push(("content-security-policy", "default-src 'none'; frame-ancestors 'none'".into()));
    response.headers.push(("x-content-type-options", "nosniff".into()));
}

/// What is said to a person: a title, and a sentence.
fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::LoggedOut => ("Logged out", "You are logged out."),
        Reason::LoginRefused => ("No login", "The login was ended by the server, or by you."),
        Reason::LogoutCrossSite => ("Not logged out", "Another site asked to log you out. Nothing was done."),
        Reason::SessionCertificateMissing | Reason::CertificateMissing => {
            ("Certificate required", "This needs your client certificate, and your browser sent none.")
        }
        Reason::SessionCertificateMismatch | Reason::CertificateMismatch => (
            "Another certificate",
            "This session began with another client certificate than the one your browser sent.",
        ),
        _ => match reason.answer() {
            Answer::Unavailable => {
                ("Not available now", "The login cannot be checked at the moment. Please try again in a few seconds.")
            }
            Answer::InsufficientScope | Answer::Forbidden => {
                ("Not allowed", "You are logged in, and may not see this.")
            }
            Answer::BadRequest | Answer::InvalidRequest => {
                ("The login did not work", "Please go back to where you began, and try again.")
            }
            Answer::Internal | Answer::Allow => ("Something went wrong", "An unexpected error occurred."),
            _ => ("Not logged in", "You have to log in to see this."),
        },
    }
}
