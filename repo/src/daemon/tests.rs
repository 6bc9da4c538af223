use super::*;

fn address(word: &str, expose_http: bool) -> Result<String, ErrorKind> {
    let log = LogSettings { json: false, level: "info".into() };
    let settings = ServiceSettings { log, expose_http, mdns: false, peer_rate: 0 };
    http_address(word, &settings).map(|address| address.to_string()).map_err(|error| error.kind())
}

#[test]
fn http_is_for_this_machine_unless_said_otherwise() {
    for (word, found) in [
        ("127.0.0.1:9646", "127.0.0.1:9646"),
        ("127.8.8.8:1", "127.8.8.8:1"),
        ("[::1]:9646", "[::1]:9646"),
        ("localhost:9646", "127.0.0.1:9646"),
        (":9646", "127.0.0.1:9646"),
        ("9646", "127.0.0.1:9646"),
    ] {
        assert_eq!(address(word, false).as_deref(), Ok(found), "{word}");
    }
    for word in ["0.0.0.0:9646", "[::]:9646", "192.0.2.1:9646", "[::ffff:192.0.2.1]:9646"] {
        assert_eq!(address(word, false), Err(ErrorKind::Usage), "{word}");
        assert_eq!(address(word, true).as_deref(), Ok(word), "{word}");
    }
    for word in ["", "x", "127.0.0.1", "127.0.0.1:65536", "example.org:80"] {
        assert_eq!(address(word, true), Err(ErrorKind::Usage), "{word}");
    }
}
