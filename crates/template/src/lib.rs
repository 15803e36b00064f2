//! The part of Go `text/template` that alert texts are written in.
