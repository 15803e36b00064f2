//! Settings as Chainfire has them, in small.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    node: Node,
    network: Network,
    storage: Storage,
    labels: BTreeMap<String, String>,
    seeds: Vec<String>,
    initial_members: Vec<Member>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Differs from the section's own default on purpose.
            node: Node {
                id: 7,
                ..Node::default()
            },
            network: Network::default(),
            storage: Storage::default(),
            labels: BTreeMap::new(),
            seeds: Vec::new(),
            initial_members: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Node {
    id: u64,
    bootstrap: bool,
    weight: f64,
    password: Secret,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Network {
    api_addr: String,
    tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    require_client_cert: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Storage {
    write_buffer_size: ByteSize,
    timeout: Millis,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            write_buffer_size: ByteSize::mib(64),
            timeout: Millis::seconds(7),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    id: u64,
    peer_url: String,
}

fn example() -> Config {
    let mut config = Config::default();
    config.network.tls = Some(Tls {
        cert_file: "c".into(),
        key_file: "k".into(),
        require_client_cert: false,
    });
    config.initial_members = vec![Member {
        id: 1,
        peer_url: "node1:2380".into(),
    }];
    config
}

fn loader() -> Loader<Config> {
    Loader::new().example(&example())
}

fn from_file(content: &str) -> Result<Loaded<Config>, Error> {
    loader().file_content(Path::new("c.toml"), content)?.load()
}

#[track_caller]
fn refused(content: &str, error: &str) {
    assert_eq!(from_file(content).unwrap_err().to_string(), error);
}

fn vars(vars: &[(&str, &str)]) -> Vec<(String, String)> {
    vars.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn defaults_stand_alone() {
    let loaded = loader().load().unwrap();
    assert_eq!(loaded.value, Config::default());
    assert_eq!(loaded.origin("node.id"), Origin::Default);
}

#[test]
fn later_layers_win_key_by_key() {
    let loaded = loader()
        .env_from(
            "CF",
            vars(&[
                ("CF__NODE__ID", "2"),
                ("CF__NODE__WEIGHT", "2"),
                ("CF__NETWORK__API_ADDR", "env:1"),
            ]),
        )
        .unwrap()
        .file_content(Path::new("c.toml"), "[node]\nid = 3\nbootstrap = true\n")
        .unwrap()
        .set("node.bootstrap", false, "--bootstrap")
        .set_some("node.id", None::<i64>, "--node-id")
        .load()
        .unwrap();
    let Config { node, network, .. } = &loaded.value;
    assert_eq!((node.id, node.bootstrap, node.weight), (3, false, 2.0));
    assert_eq!(network.api_addr, "env:1");
    assert_eq!(loaded.origin("node.id").to_string(), "in c.toml line 2");
    assert_eq!(loaded.origin("node.bootstrap").to_string(), "from --bootstrap");
    assert_eq!(
        loaded.origin("node.weight").to_string(),
        "from environment variable CF__NODE__WEIGHT"
    );
}

#[test]
fn optional_sections_lists_and_maps_load() {
    let loaded = from_file(
        r#"
seeds = ["a", "b"]
[network.tls]
cert_file = "/c"
key_file = "/k"
[labels]
any = "thing"
[storage]
write_buffer_size = "128MiB"
timeout = "1m"
[[initial_members]]
id = 1
peer_url = "node1:2380"
"#,
    )
    .unwrap();
    let config = &loaded.value;
    assert_eq!(config.network.tls.as_ref().unwrap().key_file, Path::new("/k"));
    assert_eq!(config.labels["any"], "thing");
    assert_eq!(
        (config.storage.write_buffer_size, config.storage.timeout),
        (ByteSize::mib(128), Millis(60_000))
    );
    assert_eq!(config.initial_members[0].peer_url, "node1:2380");
    assert_eq!(
        loaded.origin("initial_members[0].id").to_string(),
        "in c.toml line 12"
    );
}

#[test]
fn texts_take_the_type_of_the_default() {
    let config = loader()
        .env_from(
            "CF",
            vars(&[
                ("CF__NODE__BOOTSTRAP", "true"),
                ("CF__NODE__PASSWORD", "12345"),
                ("CF__STORAGE__WRITE_BUFFER_SIZE", "1k"),
                ("CF__STORAGE__TIMEOUT", "5s"),
                ("CF__SEEDS", "a:1, b:2"),
                ("CF__INITIAL_MEMBERS", "[{ id = 4, peer_url = 'x' }]"),
                ("CF__NETWORK__TLS__CERT_FILE", "/c"),
                ("CF__NETWORK__TLS__KEY_FILE", "/k"),
                ("CF__NETWORK__TLS__REQUIRE_CLIENT_CERT", "1"),
                ("CF_ENDPOINT", "not ours"),
            ]),
        )
        .unwrap()
        .set("node.id", "9", "--set")
        .load()
        .unwrap()
        .value;
    assert!(config.node.bootstrap && config.network.tls.unwrap().require_client_cert);
    assert_eq!((config.node.id, config.node.password.expose()), (9, "12345"));
    assert_eq!(
        (config.storage.write_buffer_size.bytes(), config.storage.timeout.0),
        (1_024, 5_000)
    );
    assert_eq!(config.seeds, ["a:1", "b:2"]);
    assert_eq!(config.initial_members[0].id, 4);
}

#[test]
fn unknown_keys_name_the_nearest() {
    refused(
        "[storage]\n\nwrite_bufer_size = 1\n",
        r#"unknown key "storage.write_bufer_size" in c.toml line 3: did you mean "write_buffer_size"?"#,
    );
    refused(
        "[stroage]\ntimeout = 1\n",
        r#"unknown key "stroage" in c.toml line 1: did you mean "storage"?"#,
    );
    refused(
        "bootstrap = true\n",
        r#"unknown key "bootstrap" in c.toml line 1: did you mean "node.bootstrap"?"#,
    );
    refused(
        "[node]\nxyzzy = 1\n",
        r#"unknown key "node.xyzzy" in c.toml line 2: known here: bootstrap, id, password, weight"#,
    );
    refused(
        "[network.tls]\ncert_fil = 'x'\n[[initial_members]]\nid = 1\npeer = 'x'\n",
        concat!(
            r#"unknown key "network.tls.cert_fil" in c.toml line 2: did you mean "cert_file"?; "#,
            r#"unknown key "initial_members[0].peer" in c.toml line 5: known here: id, peer_url"#,
        ),
    );
    let error = loader()
        .env_from("CF", vars(&[("CF__NODE__IDD", "1")]))
        .unwrap()
        .load()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"unknown key "node.idd" from environment variable CF__NODE__IDD: did you mean "id"?"#
    );
    let error = loader().set("node.ids", 3, "--node-id").load().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"unknown key "node.ids" from --node-id: did you mean "id"?"#
    );
}

#[test]
fn bad_values_name_key_place_and_what_is_wanted() {
    refused(
        "[node]\nid = \"one\"\n",
        r#"bad value "one" for "node.id" in c.toml line 2: expected a whole number, not negative"#,
    );
    refused(
        "[node]\nid = -1\n",
        r#"bad value -1 for "node.id" in c.toml line 2: expected a whole number, not negative"#,
    );
    refused(
        "[node]\nbootstrap = 1\n",
        r#"bad value 1 for "node.bootstrap" in c.toml line 2: expected true or false"#,
    );
    refused(
        "[storage]\nwrite_buffer_size = \"64 potatoes\"\n",
        r#"bad value "64 potatoes" for "storage.write_buffer_size" in c.toml line 2: expected bytes or a size such as "128MiB""#,
    );
    refused(
        "[storage]\ntimeout = -5\n",
        r#"bad value -5 for "storage.timeout" in c.toml line 2: expected milliseconds or a duration such as "5s" or "1h30m""#,
    );
    refused(
        "seeds = 'a'\n",
        r#"bad value "a" for "seeds" in c.toml line 1: expected a list"#,
    );
    refused(
        "[[initial_members]]\nid = 1\npeer_url = 'x'\n[[initial_members]]\nid = 'b'\npeer_url = 'x'\n",
        r#"bad value "b" for "initial_members[1].id" in c.toml line 5: expected a whole number, not negative"#,
    );
    let error = loader()
        .env_from("CF", vars(&[("CF__NODE__ID", "many")]))
        .unwrap()
        .load()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"bad value "many" for "node.id" from environment variable CF__NODE__ID: expected a whole number, not negative"#
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_the_lines() {
    let error = from_file(
        "[storage]\ntimeout = 'soon'\n[node]\nid = 'x'\nname = 'y'\nbootstrap = 3\n[network.tls]\ncert_file = 'c'\n",
    )
    .unwrap_err();
    let lines: Vec<String> = error.each().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"bad value "soon" for "storage.timeout" in c.toml line 2: expected milliseconds or a duration such as "5s" or "1h30m""#,
            r#"bad value "x" for "node.id" in c.toml line 4: expected a whole number, not negative"#,
            r#"unknown key "node.name" in c.toml line 5: known here: bootstrap, id, password, weight"#,
            r#"bad value 3 for "node.bootstrap" in c.toml line 6: expected true or false"#,
            r#"missing key "network.tls.key_file" (section in c.toml line 7)"#,
        ]
    );
    assert_eq!(error.to_string(), lines.join("; "));
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    let (loaded, wrong) = loader()
        .file_content(Path::new("c.toml"), "[node]\nid = 'x'\nbootstrap = true\n")
        .unwrap()
        .load_all();
    // The rest can still be looked at.
    let node = loaded.unwrap().value.node;
    assert_eq!((node.id, node.bootstrap), (7, true));
    assert_eq!(wrong[0].key(), Some("node.id"));
}

#[test]
fn missing_keys_of_an_optional_section_are_named() {
    refused(
        "[network.tls]\ncert_file = '/c'\n",
        r#"missing key "network.tls.key_file" (section in c.toml line 1)"#,
    );
}

#[test]
fn secrets_are_not_shown_in_errors() {
    refused(
        "[node]\npassword = 271828\n",
        r#"bad value <secret> for "node.password" in c.toml line 2: expected a string"#,
    );
    let loaded = from_file("[node]\npassword = 'hunter2'\n").unwrap();
    let error = loaded
        .refuse("node.password", "at least 12 characters")
        .to_string();
    assert_eq!(
        error,
        r#"bad value <secret> for "node.password" in c.toml line 2: expected at least 12 characters"#
    );
}

#[test]
fn later_checks_look_the_same() {
    let loaded = from_file("[node]\nid = 0\n").unwrap();
    let error = loaded.refuse("node.id", "a number from 1");
    assert_eq!(
        error.to_string(),
        r#"bad value 0 for "node.id" in c.toml line 2: expected a number from 1"#
    );
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
}

#[test]
fn syntax_errors_show_line_and_column() {
    let error = from_file("[node]\nid = \n").unwrap_err().to_string();
    assert!(error.starts_with("c.toml:2:"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let error = from_file("[node]\nid = 1\nid = 2\n").unwrap_err().to_string();
    assert!(error.starts_with("c.toml:3:1: duplicate key"), "{error}");
}

#[test]
fn files_may_be_required_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    assert_eq!(
        loader().file_if_exists(&path).unwrap().load().unwrap().value,
        Config::default()
    );
    let error = loader().file(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("read settings from {}", path.display())
    );
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
    std::fs::write(&path, "[node]\nid = 3\n").unwrap();
    assert_eq!(loader().file(&path).unwrap().load().unwrap().value.node.id, 3);
}

#[test]
fn malformed_variables_are_refused() {
    let error = loader().env_from("CF", vars(&[("CF__NODE__", "1")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad environment variable CF__NODE__: want CF__SECTION__KEY"
    );
}
