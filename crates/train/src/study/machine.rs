//! What the machine has to give.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes of memory that a process could still take: what the system has to give and, in a container, what is left below its
/// limit. 0 where neither is known.
pub fn free_memory() -> u64 {
    let ram = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(ram));
    let free = system.available_memory();
    match system.cgroup_limits() {
        // What the system keeps of files counts towards the limit, and gives way.
        Some(limits) => free.min(limits.total_memory.saturating_sub(limits.rss)),
        None => free,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_memory_left() {
        assert!(super::free_memory() > 1 << 20);
    }
}
