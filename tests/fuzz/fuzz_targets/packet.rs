//! Any frame over any tables, on the host: what is forwarded is forwarded rightly, all else is left
//! as it came, and each packet is counted once (see `forwarding`).
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_fuzz::forwarding;
use netroute_fuzz::story::Story;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(story) = Story::read(data) else { return Corpus::Reject };
    forwarding::check(&story);
    Corpus::Keep
});
