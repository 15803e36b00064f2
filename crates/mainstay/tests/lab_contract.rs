//! What the lab writes is what runbooks read.

use std::collections::BTreeMap;

use lab::Form;
use lab::state::{HostState, LabState};
use runbook::lab_state::Hosts;

#[test]
fn runbooks_read_the_state_that_the_lab_writes() {
    let folder = tempfile::tempdir().unwrap();
    let host = HostState {
        name: "node1".to_owned(),
        address: [127, 0, 0, 11].into(),
        dir: folder.path().to_owned(),
        path: vec!["/opt/applets".into()],
        env: BTreeMap::from([(
            "CHAINFIRE_ENDPOINT".to_owned(),
            "http://127.0.0.11:2379".to_owned(),
        )]),
        config_dir: folder.path().join("etc"),
        enter: Vec::new(),
        machine: None,
        services: Vec::new(),
    };
    for (form, read) in [
        (Form::Process, runbook::model::Form::Process),
        (Form::Machine, runbook::model::Form::Machine),
    ] {
        let state = LabState {
            name: "mainstay".to_owned(),
            form,
            owner: None,
            network: None,
            hosts: vec![host.clone()],
        };
        state.write(folder.path()).unwrap();
        let hosts = Hosts::of_lab(folder.path()).unwrap();
        assert_eq!((hosts.form, hosts.names()), (read, vec!["node1"]));
        assert_eq!(hosts.get("node1").unwrap().address(), "127.0.0.11");
        assert_eq!(hosts.lab.as_deref(), Some("mainstay"));
    }
    assert_eq!(runbook::lab_state::FILE_NAME, lab::state::STATE_FILE);
}
