//! The table of docs/downgrade.md, cell by cell: no client gets along with less than its token is bound to.

use std::sync::Arc;

use keybound::Engine;
use serde_json::json;

use crate::common::{CLIENT_A, CLIENT_B, ISSUER, NOW, config, mint, without, x5t};
use crate::table::{self, Certificate, Mode, Modes, Proof, Scheme, Token};
use crate::world::{Ask, Key, ORIGIN, SECRET, Seen, World, bare};

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Strict => "strict",
        Mode::Optional => "optional",
        Mode::Off => "off",
    }
}

fn engine(modes: Modes, introspects: bool) -> Arc<Engine> {
    let config = config(|c| {
        c["proof_of_possession_mtls"] = name(modes.mtls).into();
        c["proof_of_possession_dpop"] = name(modes.dpop).into();
        if modes.dpop != Mode::Off {
            c["public_origin"] = ORIGIN.into();
            c["store_secret"] = SECRET.into();
        }
        if modes.either {
            c["proof_of_possession_either"] = true.into();
        }
        if introspects {
            without(c, "jwks");
            c["auth_methods"] = json!(["introspection"]);
            c["introspection_endpoint"] = format!("{ISSUER}/introspect").into();
            c["client_id"] = "gateway".into();
            c["client_secret"] = "secret".into();
        }
    });
    match Engine::new(&config) {
        Ok(engine) => Arc::new(engine),
        Err(e) => panic!("{modes:?}: {e}"),
    }
}

/// What came of each cell, beside what should.
fn each_cell(introspects: bool, mut look: impl FnMut(&str, &'static str, Seen)) {
    let (key, thief) = (Key::new("ES256"), Key::new("ES256"));
    for modes in table::modes() {
        // One engine for all JWTs: what is remembered of one must not change a cell. Of opaque tokens nothing is, so that each is asked about.
        let mut engine = engine(modes, introspects);
        for token in table::TOKENS {
            let cnf = match token {
                Token::Unbound => json!(null),
                Token::Key => json!({"jkt": key.jkt()}),
                Token::Certificate => json!({"x5t#S256": x5t(CLIENT_A)}),
                Token::Both => json!({"jkt": key.jkt(), "x5t#S256": x5t(CLIENT_A)}),
            };
            let set = |claims: &mut serde_json::Value| {
                without(claims, "cnf");
                if !cnf.is_null() {
                    claims["cnf"] = cnf.clone();
                }
            };
            let text = if introspects { format!("opaque-{}", token as u8) } else { mint("ES256", set) };
            let mut said = json!({"exp": NOW + 600});
            set(&mut said);
            let mut world = World::saying(said.clone());
            for scheme in table::SCHEMES {
                for proof in table::PROOFS {
                    for certificate in table::CERTIFICATES {
                        let expected = table::verdict(modes, scheme, token, proof, certificate);
                        let cell =
                            format!("{modes:?} {scheme:?} {token:?}, proof {proof:?}, certificate {certificate:?}");
                        let ask = Ask {
                            authorization: match scheme {
                                Scheme::Bearer => format!("Bearer {text}"),
                                Scheme::Dpop => format!("DPoP {text}"),
                            },
                            authorizations: 1,
                            proofs: match proof {
                                Proof::Missing => vec![],
                                Proof::Good => vec![key.proof(&text)],
                                Proof::Bad => vec![thief.proof(&text)],
                            },
                            certificate: match certificate {
                                Certificate::Missing => None,
                                Certificate::Own => Some(CLIENT_A),
                                Certificate::Other => Some(CLIENT_B),
                            },
                            ..bare()
                        };
                        if introspects {
                            (engine, world) = (self::engine(modes, true), World::saying(said.clone()));
                        }
                        look(&cell, expected, world.ask(&engine, &ask));
                    }
                }
            }
        }
    }
}

#[test]
fn each_cell_of_the_table_for_a_jwt() {
    let (mut cells, mut allowed) = (0, 0);
    each_cell(false, |cell, expected, seen| {
        assert_eq!(seen.reason.code(), expected, "{cell}");
        assert_eq!(seen.status, if expected == "allowed" { 0 } else { 401 }, "{cell}");
        // A proof is used up only where it lets a request through.
        let spends = expected == "allowed" && seen.upstream("dpop").is_some();
        assert_eq!(seen.spent().count(), usize::from(spends), "{cell}");
        assert!(spends == (expected == "allowed" && cell.contains("} Dpop ")), "{cell}");
        cells += 1;
        allowed += usize::from(expected == "allowed");
    });
    assert_eq!((cells, allowed), (720, 98));
}

/// What is known before a token is asked about may be told before what its server would say: never is more allowed by that.
#[test]
fn each_cell_of_the_table_for_an_opaque_token() {
    each_cell(true, |cell, expected, seen| {
        assert_eq!(seen.reason.code() == "allowed", expected == "allowed", "{cell}: {}", seen.reason.code());
        assert_eq!(seen.status, if expected == "allowed" { 0 } else { 401 }, "{cell}");
        if seen.reason.code() != expected {
            let foreseen = ["certificate_missing", "dpop_scheme_required", "proof_missing"];
            assert!(foreseen.contains(&seen.reason.code()), "{cell}: {} for {expected}", seen.reason.code());
            assert!(seen.fetched.is_empty(), "{cell}");
        }
    });
}
