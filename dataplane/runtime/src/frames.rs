//! Memory for frames: how many there are, and on which NUMA node.
//!
//! A worker's queues receive into frames of its own node, where its session table is too. A node without enough huge
//! pages is no reason not to run.

use fulcrum_dpdk::{Eal, Mempool, MempoolError};

use crate::plan::Plan;

/// Frames beside those that device queues hold: for parked packets, rings and bursts.
pub(crate) const SPARE: usize = 8192;
/// Frames that the queues of one pair hold, and what drivers keep in reserve.
pub(crate) const PER_QUEUE: usize = 6144;

/// Frames that ports and workers need.
pub(crate) fn count(plans: &[Plan], workers: usize) -> usize {
    SPARE + plans.iter().map(|plan| plan.queues(workers) * PER_QUEUE).sum::<usize>()
}

/// `count` frames with `room` bytes each, shared out among the nodes that workers are on: the pool of each worker.
pub(crate) fn pools(eal: &'static Eal, count: usize, room: u16) -> Result<Vec<Mempool>, MempoolError> {
    let nodes = eal.nodes();
    let mut pools: Vec<(u32, Mempool)> = Vec::new();
    for (node, share) in shares(&nodes, count) {
        pools.push((node, pool(eal, node, share, room)?));
    }
    let of = |node: &u32| pools.iter().find(|(number, _)| number == node).map(|(_, pool)| *pool);
    Ok(nodes.iter().filter_map(of).collect())
}

fn pool(eal: &'static Eal, node: u32, count: u32, room: u16) -> Result<Mempool, MempoolError> {
    let name = format!("frames-{node}");
    Mempool::on(eal, &name, count, room, Some(node)).or_else(|_| {
        let pool = Mempool::on(eal, &name, count, room, None)?;
        tracing::warn!("NUMA node {node} has no memory for {count} frames: they are on another node");
        Ok(pool)
    })
}

/// The nodes of workers, each with as much of `count` as it has of them.
fn shares(nodes: &[u32], count: usize) -> Vec<(u32, u32)> {
    let mut distinct = nodes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let share = |node: u32| {
        let workers = nodes.iter().filter(|other| **other == node).count();
        u32::try_from((count * workers).div_ceil(nodes.len())).unwrap_or(u32::MAX)
    };
    distinct.into_iter().map(|node| (node, share(node))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_frames_of_its_workers() {
        assert_eq!(shares(&[0], 20_480), [(0, 20_480)]);
        assert_eq!(shares(&[0, 0, 0], 20_480), [(0, 20_480)]);
        assert_eq!(shares(&[1, 0, 1], 30_001), [(0, 10_001), (1, 20_001)]);
    }
}
