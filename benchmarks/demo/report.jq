# Makes the demo's report of what was measured; the schema is in docs/demo-report.md.
# SPDX-License-Identifier: BSD-3-Clause

# Packets that the HCA of $vm counted in samples between two times, by device instance.
def packets($samples; $vm; $phase; $from; $to):
    [$samples[] | select(.vm == $vm and .at >= $from and .at <= $to)] | group_by(.instance) |
    map({vm: $vm, phase: $phase, instance: .[0].instance, packets: ((map(.packets) | max) - (map(.packets) | min)),
         samples: length});

# When a state of a move began; null if it never did.
def began($move; $state): [$move.transitions[] | select(.state == $state)][0].at;

$moves[0] as $moves | $packets[0] as $samples | $soak[0] as $soak |
([$moves[].vm] | unique) as $vms |
# For each VM: free from the first move's proof until the second move's resume.
[$vms[] | . as $vm | [$moves[] | select(.vm == $vm)] as $own |
    ($own | first) as $there | ($own | last) as $back |
    (packets($samples; $vm; "before"; 0; began($there; "RELEASING")) +
     packets($samples; $vm; "away"; (began($there; "DETACHING") // 0) + 0.5; began($back; "RESUMING") // $back.ended_at) +
     packets($samples; $vm; "after"; $back.ended_at; 1e12))[]] as $rdma |
($bandwidth | [splits("\\s+") | select(. != "") | tonumber]) as $mb |
{
    moves: [$moves[] | {id, vm, from, to, began_at, ended_at, stop_at, resume_at, state, phases, bytes, stall_s}],
    job: ($soak | {ranks, messages_sent, messages_verified, lost, duplicated, corrupt, reordered, overwritten, longest_stall_s}),
    rdma_packets: $rdma,
    transport_timeline: $transports[0],
    bandwidth_mb_s: {verbs: $mb[0], tcp: $mb[1]},
    stall_limit_s: $limit,
    checks: ([
        {what: "one and the same mpirun from start to end", ok: ($before != "" and $before == $after)},
        {what: "\($soak.messages_verified) of \($soak.messages_sent) messages verified; \($soak.lost) lost, \($soak.duplicated) duplicated, \($soak.corrupt) corrupt",
         ok: ($soak.result == "ok" and $soak.messages_sent > 0 and $soak.messages_sent == $soak.messages_verified and
              $soak.lost + $soak.duplicated + $soak.corrupt == 0)}
    ] + [$moves[] | {what: "\(.vm) \(.from) -> \(.to): ended as \(.state)", ok: (.state == "DONE")}]
    + [$vms[] | . as $vm |
        ([$rdma[] | select(.vm == $vm and .phase == "before") | .packets] | add // 0) as $b |
        ([$rdma[] | select(.vm == $vm and .phase == "away") | .packets] | add // 0) as $w |
        ([$rdma[] | select(.vm == $vm and .phase == "away")] | length) as $seen |
        ([$rdma[] | select(.vm == $vm and .phase == "after") | .packets] | add // 0) as $a |
        ([$rdma[] | select(.vm == $vm and .phase == "before" and .packets > 0) | .instance]) as $bi |
        ([$rdma[] | select(.vm == $vm and .phase == "after" and .packets > 0) | .instance]) as $ai |
        {what: "packets of \($vm)\u0027s HCA: \($b) before, \($w) while away, \($a) on another device instance after",
         ok: ($b > 0 and $w == 0 and $seen > 0 and $a > 0 and ($bi - $ai) == $bi)}]
    + [$moves[] | {what: "\(.vm) \(.from) -> \(.to): longest stall \(.stall_s) s, downtime \(.phases.downtime * 1000 | round / 1000) s (limit: \($limit) s more)",
         ok: (.stall_s <= .phases.downtime + $limit)}])
}
