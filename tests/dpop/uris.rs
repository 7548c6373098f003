//! Under which URI a request was sent (RFC 9449 §4.3, check 9): what the operator says, and what trusted proxies do.

use std::sync::Arc;

use keybound::{Engine, Reason};
use serde_json::{Value, json};

use crate::common::{NOW, without};
use crate::world::{Ask, Key, World, bare, engine};

/// What a request gets whose proof is for this URI.
fn decide(engine: &Arc<Engine>, ask: &Ask, htu: &str) -> Reason {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["htu"] = htu.into());
    let ask = Ask { authorization: format!("DPoP {token}"), authorizations: 1, proofs: vec![proof], ..ask.clone() };
    World::new().decide(engine, &ask)
}

fn reason(passes: bool) -> Reason {
    if passes { Reason::Allowed } else { Reason::ProofUriMismatch }
}

/// Behind proxies at these addresses.
fn behind(trusted: &[&str], change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(|c| {
        c["trusted_ips"] = json!(trusted);
        change(c);
    })
}

const PROXY: &str = "10.0.0.7";
const CLIENT: &str = "192.0.2.1";

/// The same path, whatever name was used.
fn to(host: &'static str, peer: &'static str, forwarded: [&'static str; 4]) -> Ask {
    Ask { host, peer, forwarded, ..bare() }
}

#[test]
fn rfc9449_4_3_9_htu_is_the_target_without_query_and_fragment() {
    for (target, htu, passes) in [
        ("/data", "https://api.test/data", true),
        ("/data?x=1", "https://api.test/data", true),
        ("/data?x=1", "https://api.test/data?x=2#f", true),
        ("/data", "https://api.test/data?x=1", true),
        ("/data?", "https://api.test/data", true),
        ("/data", "https://api.test/Data", false),
        ("/data", "https://api.test/data/", false),
        ("/data/", "https://api.test/data", false),
        ("/data", "https://api.test/", false),
        ("/data", "https://api.test", false),
        ("/", "https://api.test", true),
        ("/", "https://api.test/", true),
        ("/?x=/data", "https://api.test/data", false),
        ("//data", "https://api.test/data", false),
        ("//data", "https://api.test//data", true),
        ("/a/./b/../data", "https://api.test/a/data", true),
        ("/a/%2e%2E/data", "https://api.test/data", true),
        ("/%64ata", "https://api.test/data", true),
        ("/data", "https://api.test/%64ata", true),
        ("/a%2fb", "https://api.test/a%2Fb", true),
        ("/a%2fb", "https://api.test/a/b", false),
        ("/data", "https://other.test/data", false),
        ("/data", "https://api.test.evil.test/data", false),
        ("/data", "https://evil.test/https://api.test/data", false),
        ("/data", "https://api.test@evil.test/data", false),
        ("/data", "http://api.test/data", false),
        ("/data", "/data", false),
        ("/data", "api.test/data", false),
        ("/data", "//api.test/data", false),
        ("/data", "*", false),
    ] {
        let ask = Ask { target: target.into(), ..bare() };
        assert_eq!(decide(&engine(|_| {}), &ask, htu), reason(passes), "{target} {htu}");
    }
    // What is no path of this gateway: an absolute form, `*`, nothing.
    for target in [
        "https://api.test/data",
        "*",
        "",
        "data",
        "?x",
        "/a b",
        "/\u{e9}",
        "/%4",
        "/%zz",
        "/a\\b",
        "/data#f",
        "/data?x#f",
    ] {
        let ask = Ask { target: target.into(), ..bare() };
        for htu in ["https://api.test/data", "https://api.test/", "https://api.test"] {
            assert_eq!(decide(&engine(|_| {}), &ask, htu), Reason::ProofUriMismatch, "{target}");
        }
    }
}

#[test]
fn rfc9449_4_3_9n_host_and_port_are_compared_in_normal_form() {
    for (origin, htu, passes) in [
        ("https://api.test", "https://API.Test/data", true),
        ("https://api.test", "HTTPS://api.test/data", true),
        ("https://api.test", "https://api.test:443/data", true),
        ("https://api.test:443", "https://api.test/data", true),
        ("https://API.TEST/", "https://api.test/data", true),
        ("https://api.test", "https://api.test:8443/data", false),
        ("https://api.test:8443", "https://api.test:8443/data", true),
        ("https://api.test:8443", "https://api.test/data", false),
        ("https://[::1]", "https://[0:0:0:0:0:0:0:1]/data", true),
        ("https://[0:0::1]:443", "https://[::1]/data", true),
        ("https://[::1]", "https://[::2]/data", false),
        ("https://api.test", "https://api.test./data", false),
    ] {
        assert_eq!(
            decide(&engine(|c| c["public_origin"] = origin.into()), &bare(), htu),
            reason(passes),
            "{origin} {htu}"
        );
    }
}

#[test]
fn a_refused_uri_is_told_with_the_one_that_was_expected() {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["htu"] = "https://evil.test/secret".into());
    let seen = World::new().ask(&engine(|_| {}), &crate::world::proved(&token, proof));
    assert_eq!((seen.reason, &*seen.detail), (Reason::ProofUriMismatch, "the request was for https://api.test/data"));
}

#[test]
fn rfc9449_2_a_a_proof_over_plain_http_is_refused() {
    let ask = |scheme, peer, proto| Ask { scheme, peer, forwarded: [proto, "", "", ""], ..bare() };
    let (plain, behind) = (engine(|_| {}), behind(&["10.0.0.0/8"], |_| {}));
    for (engine, ask, expected) in [
        (&plain, ask("https", CLIENT, ""), Reason::Allowed),
        (&plain, ask("HTTPS", CLIENT, ""), Reason::Allowed),
        (&plain, ask("http", CLIENT, ""), Reason::ProofOverPlainHttp),
        (&plain, ask("", CLIENT, ""), Reason::ProofOverPlainHttp),
        // Whoever says otherwise.
        (&plain, ask("http", CLIENT, "https"), Reason::ProofOverPlainHttp),
        (&plain, ask("http", PROXY, "https"), Reason::ProofOverPlainHttp),
        (&plain, ask("https", CLIENT, "http"), Reason::Allowed),
        (&behind, ask("http", CLIENT, "https"), Reason::ProofOverPlainHttp),
        (&behind, ask("http", PROXY, "https"), Reason::Allowed),
        (&behind, ask("http", PROXY, "HTTPS"), Reason::Allowed),
        (&behind, ask("http", PROXY, ""), Reason::ProofOverPlainHttp),
        // TLS up to the proxy is what counts, and not from there.
        (&behind, ask("https", PROXY, "http"), Reason::ProofOverPlainHttp),
        (&behind, ask("https", PROXY, ""), Reason::Allowed),
        // Two proxies, of which one had no TLS.
        (&behind, ask("http", PROXY, "https, http"), Reason::ProofOverPlainHttp),
        (&behind, ask("http", PROXY, "http, https"), Reason::ProofOverPlainHttp),
        (&behind, ask("http", PROXY, "https, https"), Reason::ProofOverPlainHttp),
        (&behind, ask("http", PROXY, "wss"), Reason::ProofOverPlainHttp),
    ] {
        let shown = format!("{} {} {}", ask.scheme, ask.peer, ask.forwarded[0]);
        assert_eq!(decide(engine, &ask, "https://api.test/data"), expected, "{shown}");
        // Whatever the proof says of it.
        assert_ne!(decide(engine, &ask, "http://api.test/data"), Reason::Allowed, "{shown}");
    }
}

#[test]
fn of_one_origin_the_host_of_the_request_changes_nothing() {
    for host in ["api.test", "evil.test", "", "api.test:8443", "\u{e9}", "a b"] {
        let ask = to(host, CLIENT, [""; 4]);
        assert_eq!(decide(&engine(|_| {}), &ask, "https://api.test/data"), Reason::Allowed, "{host}");
        assert_eq!(decide(&engine(|_| {}), &ask, "https://evil.test/data"), Reason::ProofUriMismatch, "{host}");
    }
}

#[test]
fn of_several_origins_it_is_the_one_that_the_host_names() {
    let several =
        || engine(|c| c["public_origin"] = json!(["https://api.test", "https://www.test:8443", "https://[::1]"]));
    for (host, htu, passes) in [
        ("api.test", "https://api.test/data", true),
        ("API.test:443", "https://api.test/data", true),
        ("www.test:8443", "https://www.test:8443/data", true),
        ("[0::1]", "https://[::1]/data", true),
        // A proof for one of them is none for another.
        ("www.test:8443", "https://api.test/data", false),
        ("api.test", "https://www.test:8443/data", false),
        ("www.test", "https://www.test/data", false),
        ("www.test", "https://www.test:8443/data", false),
        ("api.test:8443", "https://api.test:8443/data", false),
        ("evil.test", "https://evil.test/data", false),
        ("evil.test", "https://api.test/data", false),
        ("", "https://api.test/data", false),
        ("api.test, www.test", "https://api.test/data", false),
        ("api.test@evil.test", "https://api.test/data", false),
        ("api.test/", "https://api.test/data", false),
        ("api.test.", "https://api.test/data", false),
    ] {
        assert_eq!(decide(&several(), &to(host, CLIENT, [""; 4]), htu), reason(passes), "{host} {htu}");
    }
    // What anybody may say is not asked.
    let forged = to("api.test", CLIENT, ["https", "www.test", "8443", "/x"]);
    assert_eq!(decide(&several(), &forged, "https://api.test/data"), Reason::Allowed);
    assert_eq!(decide(&several(), &forged, "https://www.test:8443/data"), Reason::ProofUriMismatch);
    assert_eq!(decide(&several(), &forged, "https://www.test:8443/x/data"), Reason::ProofUriMismatch);
}

#[test]
fn a_prefix_stands_before_every_path() {
    for (prefix, target, htu, passes) in [
        ("/base", "/data", "https://api.test/base/data", true),
        ("/base", "/data", "https://api.test/data", false),
        ("/base/", "/data", "https://api.test/base/data", true),
        ("/base", "/", "https://api.test/base/", true),
        ("/base", "/", "https://api.test/base", false),
        ("/%62ase", "/data", "https://api.test/base/data", true),
        ("/base", "/base/data", "https://api.test/base/base/data", true),
        ("/base", "/base/data", "https://api.test/base/data", false),
        // Nobody leaves it.
        ("/base", "/../data", "https://api.test/data", false),
    ] {
        let engine = engine(|c| c["public_path_prefix"] = prefix.into());
        let ask = Ask { target: target.into(), ..bare() };
        assert_eq!(decide(&engine, &ask, htu), reason(passes), "{prefix} {target} {htu}");
    }
}

#[test]
fn forwarded_headers_are_believed_of_trusted_addresses_only() {
    let forwarded = ["https", "pub.test", "", "/base"];
    for (trusted, peer, is_trusted) in [
        ("10.0.0.0/8", "10.0.0.7", true),
        ("10.0.0.0/8", "11.0.0.7", false),
        ("10.0.0.7", "10.0.0.7", true),
        ("10.0.0.7", "10.0.0.8", false),
        // A socket for both has IPv4 as IPv6.
        ("10.0.0.0/8", "::ffff:10.0.0.7", true),
        ("10.0.0.0/8", "::ffff:192.0.2.1", false),
        ("10.0.0.0/8", "::10.0.0.7", false),
        ("::ffff:10.0.0.0/104", "10.0.0.7", true),
        ("::ffff:10.0.0.0/104", "::ffff:10.0.0.7", true),
        ("::ffff:10.0.0.0/104", "11.0.0.7", false),
        ("::ffff:10.0.0.7", "10.0.0.7", true),
        ("::ffff:10.0.0.7", "10.0.0.8", false),
        ("::ffff:0.0.0.0/96", "192.0.2.1", true),
        ("::ffff:0.0.0.0/95", "192.0.2.1", false),
        ("2001:db8::/32", "2001:db8::7", true),
        ("2001:db8::/32", "2001:db9::7", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::7", false),
        ("::/0", "2001:db8::7", true),
        ("::/0", "192.0.2.1", false),
        ("unix:", "unix:", true),
        ("unix:", "unix:/run/proxy.sock", true),
        ("unix:", "10.0.0.7", false),
        ("10.0.0.0/8", "unix:", false),
        ("10.0.0.0/8", "", false),
        ("10.0.0.0/8", "10.0.0.7:443", false),
        ("10.0.0.0/8", " 10.0.0.7", false),
        ("10.0.0.0/8", "10.0.0.7, 192.0.2.1", false),
    ] {
        let engine = behind(&[trusted], |c| without(c, "public_origin"));
        let ask = to("api.test", peer, forwarded);
        assert_eq!(decide(&engine, &ask, "https://pub.test/base/data"), reason(is_trusted), "{trusted} {peer}");
        // Of the others there is no name at all that could be believed.
        assert_eq!(decide(&engine, &ask, "https://api.test/data"), Reason::ProofUriMismatch, "{trusted} {peer}");
    }
}

#[test]
fn a_trusted_proxy_names_host_port_and_prefix_or_nothing_is_taken_for_them() {
    let free = || behind(&["10.0.0.0/8"], |c| without(c, "public_origin"));
    for (forwarded, htu, passes) in [
        (["https", "pub.test", "", ""], "https://pub.test/data", true),
        (["https", "PUB.test:443", "", ""], "https://pub.test/data", true),
        (["https", "pub.test", "443", ""], "https://pub.test/data", true),
        (["https", "pub.test", "8443", ""], "https://pub.test:8443/data", true),
        (["https", "pub.test:9443", "8443", ""], "https://pub.test:9443/data", true),
        (["https", "[::1]", "8443", ""], "https://[::1]:8443/data", true),
        (["https", "[::1]:9443", "8443", ""], "https://[::1]:9443/data", true),
        (["https", "pub.test", "", "/base"], "https://pub.test/base/data", true),
        (["https", "pub.test", "", "/base/"], "https://pub.test/base/data", true),
        (["https", "pub.test", "", "/"], "https://pub.test/data", true),
        (["https", "pub.test", "", "/%62ase"], "https://pub.test/base/data", true),
        // Without a host it is the operator's word alone, of which there is none.
        (["https", "", "", ""], "https://api.test/data", false),
        (["https", "", "443", ""], "https://api.test/data", false),
        // Lists: whoever wrote the first entry may be anybody.
        (["https", "evil.test, pub.test", "", ""], "https://pub.test/data", false),
        (["https", "evil.test, pub.test", "", ""], "https://evil.test/data", false),
        (["https", "pub.test", "443, 443", ""], "https://pub.test/data", false),
        (["https", "pub.test", "", "/base, /x"], "https://pub.test/base/data", false),
        (["https", "pub.test", "x", ""], "https://pub.test/data", false),
        (["https", "pub.test", "65536", ""], "https://pub.test/data", false),
        (["https", "pub.test", "-1", ""], "https://pub.test/data", false),
        (["https", "pub.test", "", "base"], "https://pub.test/base/data", false),
        (["https", "https://pub.test", "", ""], "https://pub.test/data", false),
        (["https", "u@pub.test", "", ""], "https://pub.test/data", false),
    ] {
        let seen = decide(&free(), &to("api.test", PROXY, forwarded), htu);
        assert_eq!(seen, reason(passes), "{forwarded:?} {htu}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_one_of_the_origins_where_there_are_any() {
    let several = || behind(&["10.0.0.0/8"], |c| c["public_origin"] = json!(["https://api.test", "https://pub.test"]));
    let one = || behind(&["10.0.0.0/8"], |c| c["public_path_prefix"] = "/own".into());
    for (engine, ask, htu, passes) in [
        (several(), to("api.test", PROXY, ["https", "pub.test", "", ""]), "https://pub.test/data", true),
        (several(), to("api.test", PROXY, ["https", "pub.test", "", ""]), "https://api.test/data", false),
        (several(), to("api.test", PROXY, ["https", "evil.test", "", ""]), "https://evil.test/data", false),
        (several(), to("api.test", PROXY, ["https", "", "", ""]), "https://api.test/data", true),
        (several(), to("pub.test", CLIENT, ["https", "api.test", "", ""]), "https://pub.test/data", true),
        // One origin is the one, and so is its prefix.
        (one(), to("api.test", PROXY, ["https", "pub.test", "", ""]), "https://api.test/own/data", true),
        (one(), to("api.test", PROXY, ["https", "pub.test", "", ""]), "https://pub.test/own/data", false),
        (one(), to("api.test", PROXY, ["https", "", "", "/base"]), "https://api.test/base/data", false),
        (one(), to("api.test", PROXY, ["https", "", "", "/base"]), "https://api.test/own/data", true),
        (one(), to("api.test", CLIENT, ["https", "", "", "/base"]), "https://api.test/own/data", true),
        (one(), to("api.test", CLIENT, ["https", "", "", "/base"]), "https://api.test/base/data", false),
    ] {
        assert_eq!(decide(&engine, &ask, htu), reason(passes), "{} {} {:?} {htu}", ask.host, ask.peer, ask.forwarded);
    }
}

/// Many proxies leave that header as the client sent it: one that could choose it would choose which path a proof is for.
#[test]
fn whoever_names_the_origin_names_the_prefix() {
    let with_origin = || behind(&["10.0.0.0/8"], |_| {});
    let without_origin = |prefix: Option<&str>| {
        behind(&["10.0.0.0/8"], |c| {
            without(c, "public_origin");
            if let Some(prefix) = prefix {
                c["public_path_prefix"] = prefix.into();
            }
        })
    };
    let chosen = to("api.test", PROXY, ["https", "api.test", "", "/chosen"]);
    for (engine, htu, passes) in [
        (with_origin(), "https://api.test/data", true),
        (with_origin(), "https://api.test/chosen/data", false),
        (without_origin(None), "https://api.test/chosen/data", true),
        (without_origin(None), "https://api.test/data", false),
        (without_origin(Some("/own")), "https://api.test/own/data", true),
        (without_origin(Some("/own")), "https://api.test/chosen/data", false),
    ] {
        assert_eq!(decide(&engine, &chosen, htu), reason(passes), "{htu}");
    }
}

#[test]
fn a_uri_has_at_most_2048_bytes() {
    let path = |len: usize| format!("/{}", "x".repeat(len - "https://api.test/".len()));
    for (len, passes) in [(2048, true), (2049, false), (3000, false)] {
        let target = path(len);
        let htu = format!("https://api.test{target}");
        let ask = Ask { target, now: NOW, ..bare() };
        let expected = if passes { Reason::Allowed } else { Reason::ProofUriMismatch };
        assert_eq!(decide(&engine(|_| {}), &ask, &htu), expected, "{len}");
    }
    // A longer query does not matter.
    let ask = Ask { target: format!("/data?{}", "x".repeat(10_000)), ..bare() };
    assert_eq!(decide(&engine(|_| {}), &ask, "https://api.test/data"), Reason::Allowed);
}
