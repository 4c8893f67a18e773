//! Where models come from.

use crate::support::starter_model;

#[test]
fn the_starter_model_comes_from_somewhere_and_is_whole() {
    let path = starter_model();
    assert_eq!(path.metadata().unwrap().len(), 98_362_432);
}
