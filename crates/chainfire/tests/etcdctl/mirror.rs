//! `etcdctl make-mirror`: between two of ours, and from etcd to ours, the copy is what etcd's own copy of etcd would be.

use testkit::{Etcd, Server};

use crate::runner::{self, Record};
use crate::{chainfire, judge, scene, script};

/// Keys of the source, then a mirror of it, then changes that the mirror has to follow.
const SCRIPT: &str = include_str!("scripts/mirror.script");

fn mirrored(source: &Server, destination: &Server) -> Vec<Record> {
    let steps = script::parse(SCRIPT).unwrap();
    runner::run(scene(source, Some(destination)), &steps).unwrap()
}

#[test]
fn mirrors_between_ours_and_from_etcd() {
    let (etcd, copy) = (Etcd::start().unwrap(), Etcd::start().unwrap());
    let (ours, our_copy) = (chainfire(), chainfire());
    let (other_etcd, copy_of_etcd) = (Etcd::start().unwrap(), chainfire());
    let (theirs, ours, mixed) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| mirrored(&etcd, &copy));
        let ours = scope.spawn(|| mirrored(&ours, &our_copy));
        let mixed = mirrored(&other_etcd, &copy_of_etcd);
        (theirs.join().unwrap(), ours.join().unwrap(), mixed)
    });
    judge("mirror", &theirs, &ours);
    judge("mirror", &theirs, &mixed);
}
