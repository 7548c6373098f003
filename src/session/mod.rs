//! Sessions: what is kept of a login, for how long, and how it is sealed into cookies or into the store.

pub(crate) mod cookie;
pub(crate) mod keyring;

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::cert::Thumbprint;
use crate::jose::b64;
use crate::jose::json::{self, Object, Value};

/// The version of the text of a session: a later one may mean something else by the same members.
const VERSION: i64 = 1;
/// Seconds that a session may lie in the future: more is a clock that was set back, by which nothing would run out.
const SKEW: i64 = 60;
/// Most seconds between two writes of when a session was used; with a short idling timeout a quarter of it.
const USED_STEP: i64 = 60;
/// Seconds that an entry of the store lives when no timeout says so: stores are not for ever.
const LONGEST: i64 = 30 * 24 * 3600;

/// How a request comes to its token: a method of `auth_methods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// A session
    Session,
    /// A JWT in the request
    Bearer,
    /// A token in the request that the authorization server is asked about
    Introspection,
    /// A refresh token in the request
    RefreshToken,
    /// The name and password of a user in the request
    Password,
    /// The id and secret of a client in the request
    ClientCredentials,
    /// A login at the authorization server
    AuthorizationCode,
}

impl Method {
    /// Every method, in the order in which they are tried.
    pub(crate) const ALL: &'static [Method] = &[
        Method::Session,
        Method::Bearer,
        Method::Introspection,
        Method::RefreshToken,
        Method::Password,
        Method::ClientCredentials,
        Method::AuthorizationCode,
    ];

    /// The name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Session => "session",
            Method::Bearer => "bearer",
            Method::Introspection => "introspection",
            Method::RefreshToken => "refresh_token",
            Method::Password => "password",
            Method::ClientCredentials => "client_credentials",
            Method::AuthorizationCode => "authorization_code",
        }
    }

    /// The method of a name, compared by code point.
    pub(crate) fn from_name(name: &str) -> Option<Method> {
        Self::ALL.iter().copied().find(|method| method.name() == name)
    }
}

/// What a token response gave; wiped at the end.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Tokens {
    /// The access token
    pub(crate) access_token: Zeroizing<String>,
    /// When the access token expires, by the token response, in Unix seconds
    pub(crate) expires: Option<i64>,
    /// When it was given, in Unix seconds
    pub(crate) obtained: i64,
    /// The refresh token
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    /// The ID token
    pub(crate) id_token: Option<Zeroizing<String>>,
    /// The scope that was granted, where the response tells
    pub(crate) scope: Option<String>,
}

/// A session. Times are in Unix seconds.
///
/// The id is as good as the session where that is in the store: it is secret, and random.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Session {
    /// Random, and new at each login
    pub(crate) id: [u8; 32],
    /// The method that made it
    pub(crate) method: Method,
    /// The tokens
    pub(crate) tokens: Tokens,
    /// `sub` of the ID token
    pub(crate) subject: Option<String>,
    /// The certificate that it is bound to
    pub(crate) thumbprint: Option<Thumbprint>,
    /// When it began
    pub(crate) created: i64,
    /// When it was last renewed
    pub(crate) renewed: i64,
    /// When it was last used, as far as that was written
    pub(crate) used: i64,
}

/// When a session ends, in seconds; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// After it was renewed
    pub(crate) rolling: i64,
    /// After it was used
    pub(crate) idling: i64,
    /// After it began
    pub(crate) absolute: i64,
}

/// What the time says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Good as it is
    Fresh,
    /// Good, and to be written again after [`Session::touch`]
    Touch,
    /// At its end
    Over,
    /// From the future: another node's clock is ahead of this one's, or this one was set back
    Early,
}

/// The members of a session's text.
const MEMBERS: [&str; 14] = [
    "v",
    "id",
    "method",
    "access_token",
    "expires",
    "obtained",
    "refresh_token",
    "id_token",
    "scope",
    "sub",
    "x5t#S256",
    "created",
    "renewed",
    "used",
];

impl Session {
    /// The session as JSON, for [`Session::parse`].
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let Tokens { access_token, expires, obtained, refresh_token, id_token, scope } = &self.tokens;
        let thumbprint = self.thumbprint.map(|thumbprint| thumbprint.to_string());
        let id = b64::encode(&self.id);
        let texts = [
            ("id", Some(id.as_str())),
            ("method", Some(self.method.name())),
            ("access_token", Some(access_token.as_str())),
            ("refresh_token", refresh_token.as_ref().map(|token| token.as_str())),
            ("id_token", id_token.as_ref().map(|token| token.as_str())),
            ("scope", scope.as_deref()),
            ("sub", self.subject.as_deref()),
            ("x5t#S256", thumbprint.as_deref()),
        ];
        let numbers = [
            ("v", Some(VERSION)),
            ("expires", *expires),
            ("obtained", Some(*obtained)),
            ("created", Some(self.created)),
            ("renewed", Some(self.renewed)),
            ("used", Some(self.used)),
        ];
        // No character is written as more than six, and a number has at most 20: memory that grew would leave copies of the tokens behind.
        let texts_len =
            texts.iter().filter_map(|(_, text)| *text).fold(0usize, |sum, text| sum.saturating_add(text.len()));
        let mut json = Zeroizing::new(Vec::with_capacity(texts_len.saturating_mul(6).saturating_add(512)));
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Value::Str(Cow::Borrowed(text?)))));
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, Value::Int(number?))));
        let object: Object<'_> = numbers.chain(texts).map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        // Cannot fail: memory takes all of it.
        let _ = serde_json::to_writer(&mut *json, &Value::Object(object));
        json
    }

    /// What [`Session::to_json`] wrote; of anything else nothing.
    pub(crate) fn parse(text: &[u8]) -> Option<Session> {
        let object = json::parse_object(text).ok()?;
        if object.iter().any(|(name, _)| !MEMBERS.contains(&name)) || number(&object, "v")?? != VERSION {
            return None;
        }
        let secret = |name| Some(string(&object, name)?.map(|token| Zeroizing::new(token.to_owned())));
        let thumbprint = match string(&object, "x5t#S256")? {
            Some(text) => Some(Thumbprint::parse(text)?),
            None => None,
        };
        Some(Session {
            id: b64::decode_sha256(string(&object, "id")??)?,
            method: Method::from_name(string(&object, "method")??)?,
            tokens: Tokens {
                access_token: secret("access_token")??,
                expires: number(&object, "expires")?,
                obtained: number(&object, "obtained")??,
                refresh_token: secret("refresh_token")?,
                id_token: secret("id_token")?,
                scope: string(&object, "scope")?.map(str::to_owned),
            },
            subject: string(&object, "sub")?.map(str::to_owned),
            thumbprint,
            created: number(&object, "created")??,
            renewed: number(&object, "renewed")??,
            used: number(&object, "used")??,
        })
    }

    /// Whether the session is good at `now`, and whether it is time to write it again.
    pub(crate) fn age(&self, now: i64, timeouts: &Timeouts) -> Age {
        let passed = |since: i64, timeout: i64| timeout != 0 && now.saturating_sub(since) >= timeout;
        let over = passed(self.created, timeouts.absolute)
            || passed(self.renewed, timeouts.rolling)
            || passed(self.used, timeouts.idling);
        if over {
            return Age::Over;
        }
        if self.created.max(self.renewed).max(self.used) > now.saturating_add(SKEW) {
            return Age::Early;
        }
        // Where nothing asks when it was used, too: what is written is looked for in the store before, and so a logout is noticed.
        let step = if timeouts.idling == 0 { USED_STEP } else { USED_STEP.min(timeouts.idling / 4) };
        let idle = now.saturating_sub(self.used) >= step;
        if idle || self.renews(now, timeouts) { Age::Touch } else { Age::Fresh }
    }

    /// Notes that the session is used at `now`. For one that is not over: what is over stays so.
    pub(crate) fn touch(&mut self, now: i64, timeouts: &Timeouts) {
        if self.renews(now, timeouts) {
            self.renewed = now;
        }
        self.used = now;
    }

    /// Whether three quarters of the rolling timeout have passed.
    fn renews(&self, now: i64, timeouts: &Timeouts) -> bool {
        let rolling = timeouts.rolling;
        rolling != 0 && now.saturating_sub(self.renewed) >= rolling.saturating_sub(rolling / 4)
    }

    /// Seconds that an entry of the store lives when it is written at `now`: at least 1, and to the first of the timeouts.
    pub(crate) fn ttl(&self, now: i64, timeouts: &Timeouts) -> u32 {
        self.left(self.renewed, now, timeouts)
    }

    /// Likewise of what all copies of the session are told: one of them may have been renewed a moment ago.
    pub(crate) fn ttl_of_copies(&self, now: i64, timeouts: &Timeouts) -> u32 {
        self.left(now, now, timeouts)
    }

    fn left(&self, renewed: i64, now: i64, timeouts: &Timeouts) -> u32 {
        let left = |since: i64, timeout: i64| (timeout != 0).then(|| since.saturating_add(timeout).saturating_sub(now));
        let all = [left(self.created, timeouts.absolute), left(renewed, timeouts.rolling), left(now, timeouts.idling)];
        let shortest = all.into_iter().flatten().min().unwrap_or(LONGEST);
        u32::try_from(shortest.max(1)).unwrap_or(u32::MAX)
    }
}

/// A string that may be absent; `None` is of another type.
fn string<'o>(object: &'o Object<'_>, name: &str) -> Option<Option<&'o str>> {
    match object.get(name) {
        None => Some(None),
        Some(value) => value.as_str().map(Some),
    }
}

/// An integer that may be absent; `None` is of another type.
fn number(object: &Object<'_>, name: &str) -> Option<Option<i64>> {
    match object.get(name) {
        None => Some(None),
        Some(Value::Int(number)) => Some(Some(*number)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::keyring::{Keyring, Place, Purpose};
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000;
    const NONE: Timeouts = Timeouts { rolling: 0, idling: 0, absolute: 0 };
    const FULL: &str = concat!(
        r#"{"v":1,"expires":1800000300,"obtained":1700000000,"created":1800000000,"renewed":1800000001,"used":1800000002,"#,
        r#""id":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","method":"authorization_code","access_token":"at","#,
        r#""refresh_token":"rt","id_token":"it","scope":"openid a","sub":"user","#,
        r#""x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}"#
    );

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn full() -> Session {
        Session {
            id: std::array::from_fn(|i| i as u8),
            method: Method::AuthorizationCode,
            tokens: Tokens {
                access_token: secret("at"),
                expires: Some(NOW + 300),
                obtained: 1_700_000_000,
                refresh_token: Some(secret("rt")),
                id_token: Some(secret("it")),
                scope: Some("openid a".into()),
            },
            subject: Some("user".into()),
            thumbprint: Thumbprint::parse("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"),
            created: NOW,
            renewed: NOW + 1,
            used: NOW + 2,
        }
    }

    fn least() -> Session {
        let tokens = Tokens {
            access_token: secret(""),
            expires: None,
            obtained: 0,
            refresh_token: None,
            id_token: None,
            scope: None,
        };
        Session { tokens, subject: None, thumbprint: None, method: Method::Password, ..full() }
    }

    fn at(created: i64, renewed: i64, used: i64) -> Session {
        Session { created: NOW + created, renewed: NOW + renewed, used: NOW + used, ..full() }
    }

    #[test]
    fn a_method_has_its_name_and_its_place() {
        let names: Vec<&str> = Method::ALL.iter().map(|m| m.name()).collect();
        assert_eq!(
            names,
            [
                "session",
                "bearer",
                "introspection",
                "refresh_token",
                "password",
                "client_credentials",
                "authorization_code"
            ]
        );
        for &method in Method::ALL {
            assert_eq!(Method::from_name(method.name()), Some(method));
        }
        for name in ["", "Session", "session ", "refresh-token", "session\0", "kong_oauth2"] {
            assert_eq!(Method::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_session_is_written_and_read_back() {
        assert_eq!(String::from_utf8_lossy(&full().to_json()), FULL);
        assert!(Session::parse(FULL.as_bytes()) == Some(full()));
        assert!(Session::parse(&least().to_json()) == Some(least()));
        assert!(!String::from_utf8_lossy(&least().to_json()).contains("null"));
    }

    #[test]
    fn a_member_that_is_unknown_missing_or_of_another_type_refuses() {
        assert!(Session::parse(FULL.as_bytes()).is_some());
        let optional = ["expires", "refresh_token", "id_token", "scope", "sub", "x5t#S256"];
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(FULL).expect("JSON");
        assert_eq!(object.len(), MEMBERS.len());
        let parse = |object: &serde_json::Map<_, _>| Session::parse(&serde_json::to_vec(object).expect("JSON"));
        for name in MEMBERS {
            let mut without = object.clone();
            without.remove(name);
            assert_eq!(parse(&without).is_some(), optional.contains(&name), "without {name}");
            for other in ["null", "true", "1.5", "1e3", "\"1\"", "[]", "{}", "[\"a\"]", "18446744073709551615", "1"] {
                let value: serde_json::Value = serde_json::from_str(other).expect("JSON");
                if value.is_string() == object[name].is_string() && value.is_i64() == object[name].is_i64() {
                    continue;
                }
                let mut changed = object.clone();
                changed.insert(name.into(), value);
                assert!(parse(&changed).is_none(), "{name}: {other}");
            }
        }
        for name in ["x", "V", "nonce", "access_token ", ""] {
            let mut more = object.clone();
            more.insert(name.into(), "a".into());
            assert!(parse(&more).is_none(), "{name}");
        }
    }

    #[test]
    fn another_version_id_method_or_thumbprint_refuses() {
        for (good, bad) in [
            ("\"v\":1", "\"v\":0"),
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":-1"),
            ("\"v\":1", "\"v\":1.0"),
            ("AAECAw", "AAECA"),
            ("AAECAw", "AAECAww"),
            ("AAECAw", "+AECAw"),
            ("dHh8", "dHh9"),
            ("authorization_code", "authorization-code"),
            ("authorization_code", ""),
            ("A4DtL2", "A4DtL"),
            ("y5v0", "y5v1"),
            ("\"at\"", "\"a\\u0000\""),
            ("\"at\"", "\"a\u{1}\""),
            ("{\"v\"", "{\"v\":1,\"v\""),
            ("\"}", "\"} {}"),
            ("\"}", "\""),
        ] {
            let changed = FULL.replacen(good, bad, 1);
            assert_ne!(changed, FULL);
            assert!(Session::parse(changed.as_bytes()).is_none(), "{bad}");
        }
        for text in [&b""[..], b"null", b"[]", b"{}", b"{\"v\":1}", b"\xff", b"\0"] {
            assert!(Session::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_session_cut_anywhere_refuses() {
        for cut in 0..FULL.len() {
            assert!(Session::parse(&FULL.as_bytes()[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn the_text_of_a_session_never_moves_in_memory() {
        // Every character takes as much room as JSON has for any.
        let worst = "\u{1}".repeat(10_000);
        let mut session = full();
        session.tokens.access_token = secret(&worst);
        session.tokens.refresh_token = Some(secret(&worst));
        session.tokens.expires = Some(i64::MIN);
        (session.created, session.renewed, session.used) = (i64::MIN, i64::MIN, i64::MIN);
        let text = session.to_json();
        assert!(text.len() > 120_000);
        let texts = 20_000 + 43 + "authorization_code".len() + "it".len() + "openid a".len() + "user".len() + 43;
        assert_eq!(text.capacity(), 6 * texts + 512);
        assert!(Session::parse(&text) == Some(session));
    }

    #[test]
    fn a_session_is_over_when_the_first_of_its_timeouts_is_reached() {
        let timeouts = |rolling, idling, absolute| Timeouts { rolling, idling, absolute };
        for (session, timeouts) in [
            (at(-100, 0, 0), timeouts(0, 0, 100)),
            (at(0, -100, 0), timeouts(100, 0, 0)),
            (at(0, 0, -100), timeouts(0, 100, 0)),
            (at(-100, -1, -1), timeouts(1000, 1000, 100)),
            (at(-500, -100, -1), timeouts(100, 1000, 1000)),
            (at(-500, -200, -100), timeouts(1000, 100, 1000)),
        ] {
            assert_ne!(session.age(NOW - 1, &timeouts), Age::Over);
            assert_eq!(session.age(NOW, &timeouts), Age::Over);
            assert_eq!(session.age(NOW + 1, &timeouts), Age::Over);
            assert_ne!(session.age(NOW + 1, &NONE), Age::Over);
        }
    }

    #[test]
    fn a_session_from_the_future_is_early() {
        for timeouts in [NONE, Timeouts { rolling: 3600, idling: 900, absolute: 86_400 }] {
            for (created, renewed, used) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)] {
                let session = |ahead: i64| at(created * ahead, renewed * ahead, used * ahead);
                assert_eq!(session(60).age(NOW, &timeouts), Age::Fresh);
                assert_eq!(session(61).age(NOW, &timeouts), Age::Early);
                assert_eq!(session(i64::MAX - NOW).age(NOW, &timeouts), Age::Early);
            }
        }
    }

    #[test]
    fn a_use_is_written_once_a_minute_or_in_a_quarter_of_the_idling_timeout() {
        for (idling, step) in [(3600, 60), (240, 60), (239, 59), (100, 25), (8, 2), (4, 1), (0, 60)] {
            let timeouts = Timeouts { idling, ..NONE };
            assert_eq!(at(-9, -9, -(step - 1)).age(NOW, &timeouts), Age::Fresh, "{idling}");
            assert_eq!(at(-9, -9, -step).age(NOW, &timeouts), Age::Touch, "{idling}");
        }
        assert_eq!(at(0, 0, 0).age(NOW, &Timeouts { idling: 3, ..NONE }), Age::Touch);
    }

    #[test]
    fn a_session_is_renewed_after_three_quarters_of_the_rolling_timeout() {
        for (rolling, after) in [(3600, 2700), (100, 75), (7, 6), (4, 3), (2, 2), (1, 1)] {
            let timeouts = Timeouts { rolling, ..NONE };
            let mut early = at(-9999, 1 - after, -50);
            assert_eq!(early.age(NOW, &timeouts), Age::Fresh, "{rolling}");
            early.touch(NOW, &timeouts);
            assert!(early == at(-9999, 1 - after, 0), "{rolling}");
            let mut late = at(-9999, -after, -50);
            assert_eq!(late.age(NOW, &timeouts), if after < rolling { Age::Touch } else { Age::Over }, "{rolling}");
            late.touch(NOW, &timeouts);
            assert!(late == at(-9999, 0, 0), "{rolling}");
        }
        let mut never = at(-9999, -9999, -9999);
        never.touch(NOW, &NONE);
        assert!(never == at(-9999, -9999, 0));
    }

    #[test]
    fn an_entry_lives_to_the_first_of_the_timeouts() {
        let timeouts = |rolling, idling, absolute| Timeouts { rolling, idling, absolute };
        let session = at(-100, -50, -10);
        for (timeouts, ttl) in [
            (timeouts(0, 0, 1000), 900),
            (timeouts(1000, 0, 0), 950),
            // From now: it is written since it is used.
            (timeouts(0, 1000, 0), 1000),
            (timeouts(1000, 960, 1000), 900),
            (timeouts(1000, 960, 2000), 950),
            (timeouts(2000, 960, 2000), 960),
            (NONE, 2_592_000),
            (timeouts(0, 0, 90 * 86_400), 90 * 86_400 - 100),
            // No store has a lifetime of 0, or of less.
            (timeouts(0, 0, 100), 1),
            (timeouts(10, 0, 0), 1),
            (timeouts(0, 0, i64::MAX), u32::MAX),
        ] {
            assert_eq!(session.ttl(NOW, &timeouts), ttl, "{timeouts:?}");
        }
    }

    #[test]
    fn a_session_sealed_for_a_cookie_does_not_open_in_the_store() {
        let keyring = Keyring::new(&[secret("0123456789abcdef0123456789abcdef")]);
        let cookie = Place { purpose: Purpose::Session, cookie: "__Host-s", host: "api.test", audience: "" };
        let stored = Place { purpose: Purpose::Stored, ..cookie };
        let sealed = keyring.seal(&cookie, &full().to_json()).expect("sealed");
        let opened = |place| keyring.open(place, &sealed).and_then(|opened| Session::parse(&opened.plaintext));
        assert!(opened(&cookie) == Some(full()));
        assert!(opened(&stored).is_none());
        assert_ne!(Keyring::name(&cookie, &full().id), Keyring::name(&stored, &full().id));
    }

    /// `proptest` prints what fails, and a session does not print.
    struct Hidden(Session);

    impl std::fmt::Debug for Hidden {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&String::from_utf8_lossy(&self.0.to_json()))
        }
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![3 => NOW - 5000..NOW + 100, 1 => any::<i64>()]
    }

    fn sessions() -> impl Strategy<Value = Hidden> {
        // Without NUL, which strict JSON does not take.
        let text = || "[^\0]{0,20}";
        let maybe = || prop::option::of(text());
        let tokens = (text(), any::<Option<i64>>(), maybe(), maybe(), maybe());
        let times = (time(), time(), time());
        let facts = (any::<[u8; 32]>(), 0..Method::ALL.len(), maybe(), any::<Option<[u8; 32]>>());
        (tokens, facts, times).prop_map(|(tokens, (id, method, subject, thumbprint), (created, renewed, used))| {
            let (access_token, expires, refresh_token, id_token, scope) = tokens;
            Hidden(Session {
                id,
                method: Method::ALL[method],
                tokens: Tokens {
                    access_token: access_token.into(),
                    expires,
                    obtained: used,
                    refresh_token: refresh_token.map(Zeroizing::new),
                    id_token: id_token.map(Zeroizing::new),
                    scope,
                },
                subject,
                thumbprint: thumbprint.map(Thumbprint),
                created,
                renewed,
                used,
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_session_is_written_and_read_back(session in sessions()) {
            let text = session.0.to_json();
            prop_assert!(Session::parse(&text) == Some(session.0));
            prop_assert!(Session::parse(&text[..text.len() - 1]).is_none());
        }

        #[test]
        fn nothing_but_a_session_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Session::parse(&bytes).is_none());
        }

        #[test]
        fn no_time_panics_and_what_is_over_does_not_come_back(
            session in sessions(),
            now in time(),
            (rolling, idling, absolute) in (0..8000i64, 0..8000i64, prop_oneof![0..8000i64, Just(i64::MAX)]),
        ) {
            let mut session = session.0;
            let timeouts = Timeouts { rolling, idling, absolute };
            let age = session.age(now, &timeouts);
            prop_assert!(session.ttl(now, &timeouts) >= 1);
            if age == Age::Touch {
                session.touch(now, &timeouts);
                prop_assert_eq!(session.used, now);
                prop_assert_ne!(session.age(now, &timeouts), Age::Over);
            }
        }
    }
}
