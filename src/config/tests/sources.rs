//! What comes from variables and from files with secrets.

use super::*;

#[test]
fn variables_override_every_key_of_the_first_three_sections() {
    let environment = [
        ("CERBAS_REDIS_URL", "redis://r/2"),
        ("CERBAS_REDIS_USERNAME", "u"),
        ("CERBAS_REDIS_PASSWORD", "1234"),
        ("CERBAS_REDIS_SERVER", "none"),
        ("CERBAS_REDIS_PREFIX", "P"),
        ("CERBAS_REDIS_EXTRA_CHANNELS", "a{id}, b{id}"),
        ("CERBAS_SERVER_WORKERS", "7"),
        ("CERBAS_SERVER_STATE_DIR", "/s"),
        ("CERBAS_SERVER_SHUTDOWN_TIMEOUT", "1s"),
        ("CERBAS_SERVER_MAX_REQUEST", "65536"),
        ("CERBAS_SERVER_MAX_OUTPUT", "10MB"),
        ("CERBAS_SERVER_RESULT_TTL", "2s"),
        ("CERBAS_SERVER_MAX_STUCK", "3"),
        ("CERBAS_AUTH_SOURCES", "web,cli"),
        ("CERBAS_AUTH_USERS", "tom"),
        ("CERBAS_AUTH_REQUIRE_USER", "true"),
    ];
    let config = read_with("[server]\nworkers = 3\n[redis]\nurl = 'redis://file/1'", &environment);
    let as_file = r#"
        redis = { url = "redis://r/2", username = "u", password = "1234", server = "none", prefix = "P",
                  extra_channels = ["a{id}", "b{id}"] }
        server = { workers = 7, state_dir = "/s", shutdown_timeout = "1s", max_request = 65536, max_output = "10MB",
                   result_ttl = "2s", max_stuck = 3 }
        auth = { sources = ["web", "cli"], users = ["tom"], require_user = true }"#;
    assert_eq!(config, read(as_file));
}

#[test]
fn faults_of_variables_name_the_variable() {
    check_with(
        "",
        &[("CERBAS_SERVER_WORKERS", "many"), ("CERBAS_AUTH_REQUIRE_USER", "1"), ("CERBAS_REDIS_ULR", "a")],
        &[
            r#"CERBAS_AUTH_REQUIRE_USER: expected true or false, found "1""#,
            "CERBAS_REDIS_ULR: unknown variable, did you mean CERBAS_REDIS_URL?",
            r#"CERBAS_SERVER_WORKERS: expected a whole number from 1 to 4096, found "many""#,
        ],
    );
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    let environment = [
        ("CERBAS_ARG_WORKERS", "many"),
        ("CERBAS_FUNC", "sum"),
        ("CERBAS_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("CERBAS_SERVER_WORKERS", ""),
        ("SERVER_WORKERS", "many"),
    ];
    assert_eq!(read_with("", &environment), read(""));
}

#[test]
fn secrets_are_read_from_files_beside_the_configuration() {
    let folder = Folder::new();
    folder.write("cerbas.toml", "[redis]\nurl_file = 'url'\npassword_file = 'password'");
    folder.write("url", "redis://host/3\r\n");
    folder.write("password", " two words \n\n");
    let config = folder.load(&[]).expect("both can be read");
    assert_eq!(config.redis.url, "redis://host/3");
    assert_eq!(config.redis.password.as_deref(), Some(" two words \n"));

    let config = folder.load(&[("CERBAS_REDIS_URL", "redis://other/4")]).expect("a variable wins");
    assert_eq!(config.redis.url, "redis://other/4");
    assert_eq!(config.redis.password.as_deref(), Some(" two words \n"));
}

#[test]
fn secrets_that_cannot_be_read_are_named() {
    let folder = Folder::new();
    folder.write("cerbas.toml", "[redis]\nurl_file = 'url'\npassword_file = 'empty'");
    folder.write("empty", "\n");
    let missing = "cerbas.toml:2:12: redis.url_file: cannot read url: No such file or directory (os error 2)";
    let empty = "cerbas.toml:3:17: redis.password_file: cannot use empty: the file is empty";
    assert_eq!(folder.load(&[]), Err(format!("{missing}\n{empty}")));
}

#[test]
fn a_secret_is_given_once() {
    let fault = "redis.password_file: password is there as well, give only one of them";
    check("[redis]\npassword = 'a'\npassword_file = 'b'", &[&format!("cerbas.toml:3:1: {fault}")]);
    let both = [("CERBAS_REDIS_URL", "redis://a"), ("CERBAS_REDIS_URL_FILE", "/b")];
    check_with("", &both, &["CERBAS_REDIS_URL_FILE: url is there as well, give only one of them"]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_one_fault() {
    let folder = Folder::new();
    let missing = "cerbas.toml: cannot read the configuration: No such file or directory (os error 2)";
    assert_eq!(folder.load(&[]), Err(missing.to_owned()));
    folder.write("cerbas.toml", b"# a\n# \xc3\xbc\xff\n");
    assert_eq!(folder.load(&[]), Err("cerbas.toml:2:4: expected text in UTF-8".to_owned()));
}
