//! Room in the tries: the kernel's own routes and the Services' always find some, custom routes next, and
//! host routes for neighbours take what is left.

use ipnet::IpNet;

use super::image::Limits;
use super::special::{NOT_FORWARDED4, NOT_FORWARDED6};
use super::table::Table;

/// Entries still free in `ROUTES4` and `ROUTES6`.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    free4: usize,
    free6: usize,
}

impl Budget {
    /// What is left beside special prefixes, the kernel's routes and the Services'.
    pub fn new(limits: Limits, table: &Table<'_>) -> Self {
        let system = |is4: bool| {
            table
                .iter()
                .filter(|(prefix, entry)| matches!(prefix, IpNet::V4(_)) == is4 && entry.is_given())
                .count()
        };
        let free = |limit: u32, used: usize| (limit as usize).saturating_sub(used);
        Self {
            free4: free(limits.routes4, NOT_FORWARDED4.len() + system(true)),
            free6: free(limits.routes6, NOT_FORWARDED6.len() + system(false)),
        }
    }

    /// Takes room for one prefix; false if there is none.
    pub fn take(&mut self, prefix: &IpNet) -> bool {
        let free = match prefix {
            IpNet::V4(_) => &mut self.free4,
            IpNet::V6(_) => &mut self.free6,
        };
        let fits = *free > 0;
        *free = free.saturating_sub(1);
        fits
    }

    /// Why a prefix got no room.
    pub fn reason(prefix: &IpNet, limits: Limits) -> String {
        match prefix {
            IpNet::V4(_) => {
                format!("the IPv4 route table is full: raise limits.routes4 (now {})", limits.routes4)
            }
            IpNet::V6(_) => {
                format!("the IPv6 route table is full: raise limits.routes6 (now {})", limits.routes6)
            }
        }
    }
}
