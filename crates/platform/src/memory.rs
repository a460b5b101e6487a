//! Used and available memory of this process.

use std::path::{Path, PathBuf};

/// Memory in bytes that this process can still allocate, if the system reports it: free memory,
/// limited by `ulimit -v` and `-d` and by control groups (containers).
pub fn available() -> Option<u64> {
    // Resident, not mapped memory: the allocator reserves more than it has given out.
    let used = read_kib(STATUS, "VmRSS:").unwrap_or(0);
    let limits = ["Max address space", "Max data size"];
    let left = limits.map(|limit| Some(soft_limit(limit)?.saturating_sub(used)));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = cgroup_available(Path::new("/sys/fs/cgroup"), &groups);
    left.into_iter().chain([read_kib("/proc/meminfo", "MemAvailable:"), group]).flatten().min()
}

/// The memory of the machine in bytes, used or not, if the system reports it.
pub fn physical() -> Option<u64> {
    read_kib("/proc/meminfo", "MemTotal:")
}

/// A soft limit of this process, in bytes; `None` if unlimited.
fn soft_limit(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Memory that the control groups of this process and their ancestors allow, in bytes. `groups` is
/// the text of /proc/self/cgroup, and `root` the mount point. A group's file cache counts as
/// available.
fn cgroup_available(root: &Path, groups: &str) -> Option<u64> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, limit, used, prefix) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current", "")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        } else {
            continue;
        };
        // In a container, the path may be the host's and not exist here.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let group = root.join(group);
            let (Some(limit), Some(used)) = (number(group.join(limit)), number(group.join(used))) else {
                continue;
            };
            let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let amount = |name: &str| {
                let line = stat.lines().find_map(|line| line.strip_prefix(prefix)?.strip_prefix(name));
                line.and_then(|rest| rest.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            let files = amount("active_file ") + amount("inactive_file ");
            let left = limit.saturating_sub(used.saturating_sub(files));
            least = Some(least.unwrap_or(left).min(left));
        }
    }
    least
}

/// The memory use of this process, on Linux.
const STATUS: &str = "/proc/self/status";

/// Peak resident memory of this process, in bytes, if the system reports it.
pub fn peak() -> Option<u64> {
    read_kib(STATUS, "VmHWM:")
}

fn read_kib(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn the_narrowest_group_counts_and_its_file_cache_is_available() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create_new(path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        let left = |groups: &str| cgroup_available(root.path(), groups);
        assert_eq!(left("0::/a/b\n"), None);
        // Version 2: the parent group has the limit.
        file("a/b/memory.max", "max\n");
        file("a/b/memory.current", "10\n");
        file("a/memory.max", "1000\n");
        file("a/memory.current", "700\n");
        file("a/memory.stat", "anon 500\nfile 200\ninactive_file 120\nactive_file 30\n");
        assert_eq!(left("1:cpu:/x\n0::/a/b\n"), Some(450));
        assert_eq!(left("0::/elsewhere\n"), None);
        // Version 1, in a container that sees its own group as the root.
        file("memory/memory.limit_in_bytes", "400\n");
        file("memory/memory.usage_in_bytes", "100\n");
        file("memory/memory.stat", "inactive_file 9\ntotal_inactive_file 20\ntotal_active_file 1\n");
        assert_eq!(left("4:memory:/of/the/machine\n0::/a/b\n"), Some(321));
        assert_eq!(left("5:cpu,memory:/\n"), Some(321));
    }
}
