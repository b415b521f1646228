//! Random graphs.

use super::*;

fn at_server(to: u64) -> Edge {
    Edge { to, wait: Wait::Local { resource: "a".into(), since_look: 0, seen_look: 1 } }
}

fn here(to: u64, waiter: u64) -> Edge {
    Edge { to, wait: Wait::Global { waiter, since_look: 0 } }
}

/// Random graphs: a cycle is found just where a registration and a wait at a server are in one.
#[test]
fn cycles_of_random_graphs() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut with, mut without) = (0, 0);
    for round in 0..3_000 {
        let count = 2 + random(6);
        let mut graph: Graph = (0..count).map(|seq| (seq, Vec::new())).collect();
        for n in 0..random(12) {
            let (from, to) = (random(count), random(count));
            if from == to {
                continue;
            }
            let edge = if random(2) == 0 { at_server(to) } else { here(to, n) };
            graph.entry(from).or_default().push(edge);
        }
        let reaches = |from: u64, to: u64| {
            let (mut seen, mut left) = (std::collections::HashSet::from([from]), vec![from]);
            while let Some(seq) = left.pop() {
                left.extend(graph[&seq].iter().map(|edge| edge.to).filter(|to| seen.insert(*to)));
            }
            seen.contains(&to)
        };
        // In one strongly connected part.
        let inner: Vec<(u64, &Edge)> = graph
            .iter()
            .flat_map(|(from, edges)| edges.iter().map(move |edge| (*from, edge)))
            .filter(|(from, edge)| reaches(edge.to, *from))
            .collect();
        let expected = inner.iter().any(|(at, edge)| {
            edge.waiter().is_some()
                && inner
                    .iter()
                    .any(|(other, of)| of.waiter().is_none() && reaches(*at, *other) && reaches(*other, *at))
        });
        let found = cycle_in(&graph);
        assert_eq!(found.is_some(), expected, "round {round}: {graph:?}");
        let Some(cycle) = found else {
            without += 1;
            continue;
        };
        with += 1;
        for (n, (from, edge)) in cycle.0.iter().enumerate() {
            assert!(graph[from].contains(edge), "round {round}");
            assert_eq!(edge.to, cycle.0[(n + 1) % cycle.0.len()].0, "round {round}");
        }
        assert!(cycle.victim().is_some() && cycle.seen_look() == 1, "round {round}");
    }
    assert!(with > 200 && without > 200, "{with} {without}");
}
