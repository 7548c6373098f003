//! Access tokens: the facts that decide, read once and strictly.

pub(crate) mod jwt;
pub(crate) mod rule;

use crate::binding::Confirmation;
use crate::jose::b64;
use crate::jose::jws::Compact;
use crate::reason::Reason;

/// How far `iat` may be ahead of the gateway's clock, in seconds (FAPI 2.0 §5.3.2.1).
pub const MAX_AHEAD: i64 = 60;
/// How far `nbf` may be ahead whatever the configured leeway, in seconds: FAPI 2.0 §5.3.2.1 demands to accept 10.
pub const NBF_TOLERANCE: i64 = 10;

/// The claims of a token of which nothing was checked, for showing them to an operator. Never decide from them.
pub fn dangerous_unverified_claims(token: &[u8]) -> Option<Vec<u8>> {
    b64::decode(Compact::split(token).ok()?.payload)
}

/// What is kept of a token whose signature and fixed claims are right. These are facts, not verdicts: time and binding are
/// checked from them on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `exp`, Unix seconds
    pub expires: i64,
    /// `nbf`, Unix seconds
    pub not_before: Option<i64>,
    /// `iat`, Unix seconds
    pub issued: Option<i64>,
    /// `cnf`
    pub confirmation: Confirmation,
}

impl Facts {
    /// What holds where two sources vouch for one token: the shorter life, and the binding that either knows.
    ///
    /// # Errors
    /// They bind it to different keys.
    pub(crate) fn and(self, other: Facts) -> Result<Facts, Reason> {
        let later = |a: Option<i64>, b: Option<i64>| a.max(b);
        Ok(Facts {
            expires: self.expires.min(other.expires),
            not_before: later(self.not_before, other.not_before),
            issued: later(self.issued, other.issued),
            confirmation: self.confirmation.and(other.confirmation)?,
        })
    }

    /// Checks the times at `now`, with `leeway` seconds for the difference of the clocks (RFC 7519 §4.1.4 to §4.1.6).
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn check_time(&self, now: i64, leeway: i64) -> Result<(), Reason> {
        if now >= self.expires.saturating_add(leeway) {
            return Err(Reason::TokenExpired);
        }
        if self.not_before.is_some_and(|nbf| now.saturating_add(leeway.max(NBF_TOLERANCE)) < nbf) {
            return Err(Reason::TokenNotYetValid);
        }
        if self.issued.is_some_and(|iat| now.saturating_add(MAX_AHEAD) < iat) {
            return Err(Reason::TokenIssuedInFuture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exp: i64, nbf: Option<i64>, iat: Option<i64>, now: i64, leeway: i64) -> Result<(), Reason> {
        Facts { expires: exp, not_before: nbf, issued: iat, confirmation: Confirmation::Unbound }
            .check_time(now, leeway)
    }

    #[test]
    fn rfc7519_4_1_4_a_exp_ends_the_token_in_its_own_second() {
        assert_eq!(check(100, None, None, 99, 0), Ok(()));
        assert_eq!(check(100, None, None, 100, 0), Err(Reason::TokenExpired));
        assert_eq!(check(100, None, None, 109, 10), Ok(()));
        assert_eq!(check(100, None, None, 110, 10), Err(Reason::TokenExpired));
        assert_eq!(check(-1, None, None, 100, 0), Err(Reason::TokenExpired));
    }

    #[test]
    fn rfc7519_4_1_5_a_nbf_may_be_ten_seconds_ahead_or_the_leeway() {
        assert_eq!(check(1000, Some(110), None, 100, 0), Ok(()));
        assert_eq!(check(1000, Some(111), None, 100, 0), Err(Reason::TokenNotYetValid));
        assert_eq!(check(1000, Some(130), None, 100, 30), Ok(()));
        assert_eq!(check(1000, Some(131), None, 100, 30), Err(Reason::TokenNotYetValid));
    }

    #[test]
    fn rfc7519_4_1_6_a_iat_may_be_sixty_seconds_ahead() {
        assert_eq!(check(1000, None, Some(160), 100, 0), Ok(()));
        assert_eq!(check(1000, None, Some(161), 100, 60), Err(Reason::TokenIssuedInFuture));
    }

    #[test]
    fn two_sources_give_the_shorter_life_and_never_lose_a_binding() {
        use crate::cert::Thumbprint;
        let facts = |exp, nbf, confirmation| Facts { expires: exp, not_before: nbf, issued: None, confirmation };
        let bound = |der: &[u8]| Confirmation::Bound { certificate: Some(Thumbprint::of_der(der)), key: None };
        let key = |jkt: &[u8]| Confirmation::Bound { certificate: None, key: Some(Thumbprint::of_der(jkt)) };
        let refused = Confirmation::Refused(Reason::ConfirmationUnsupported);
        let unbound = facts(10, Some(3), Confirmation::Unbound);
        assert_eq!(unbound.and(facts(9, Some(4), bound(b"a"))), Ok(facts(9, Some(4), bound(b"a"))));
        assert_eq!(facts(9, None, bound(b"a")).and(unbound), Ok(facts(9, Some(3), bound(b"a"))));
        assert_eq!(facts(9, None, bound(b"a")).and(facts(9, None, refused)), Ok(facts(9, None, refused)));
        let (certificate, key_too) = (Some(Thumbprint::of_der(b"a")), Some(Thumbprint::of_der(b"k")));
        let both = Confirmation::Bound { certificate, key: key_too };
        assert_eq!(facts(9, None, bound(b"a")).and(facts(9, None, key(b"k"))), Ok(facts(9, None, both)));
        assert_eq!(facts(9, None, both).and(facts(9, None, key(b"l"))), Err(Reason::ConfirmationMalformed));
        let other = facts(9, None, bound(b"b"));
        assert_eq!(facts(9, None, bound(b"a")).and(other), Err(Reason::ConfirmationMalformed));
    }

    #[test]
    fn the_edges_of_time_do_not_overflow() {
        for now in [i64::MIN, 0, i64::MAX] {
            for at in [i64::MIN, i64::MAX] {
                let _ = check(at, Some(at), Some(at), now, 60);
            }
        }
        assert_eq!(check(i64::MAX, None, None, i64::MAX, 60), Err(Reason::TokenExpired));
    }
}
