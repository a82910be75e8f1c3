//! The expectations of the demonstration, each with a name and the numbers it was judged by.

use anyhow::{Result, bail};

#[derive(Default)]
pub struct Checks {
    failed: usize,
    count: usize,
}

impl Checks {
    /// Prints one line for one expectation.
    pub fn expect(&mut self, held: bool, name: &str, numbers: &str) {
        self.count += 1;
        self.failed += usize::from(!held);
        println!("{:<6}  {name}: {numbers}", if held { "ok" } else { "FAILED" });
    }

    pub fn conclude(&self) -> Result<()> {
        let Self { failed, count } = self;
        if *failed > 0 {
            bail!("{failed} of {count} expectations did not hold");
        }
        println!("all {count} expectations held");
        Ok(())
    }
}
