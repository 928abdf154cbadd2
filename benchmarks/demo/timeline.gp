# Draws out/demo/timeline.png: throughput, heartbeat gaps, and the phases of each VM's moves.
# SPDX-License-Identifier: BSD-3-Clause
set terminal pngcairo size 1400,900 font ",11"
set output dir.'/timeline.png'
set multiplot layout 3,1 title "A running MPI job moves to another site and back" font ",14"
set lmargin 12
set rmargin 4
set termoption noenhanced
stats dir.'/beats.txt' using 5 nooutput
top = STATS_max / 1e6 * 1.05
stats dir.'/beats.txt' using 1 nooutput
set xrange [-2:STATS_max + 1]
set grid x
stops = "< cat ".dir."/stops.tsv"
set style fill transparent solid 0.3 noborder

set ylabel "verified [MB]"
set yrange [0:top]
set key left top
plot stops using (($1 + $2) / 2):(top):($1):($2):(0):(top) with boxxyerror lc rgb "#cc4444" title "VM stopped", \
     dir.'/beats.txt' using ($2 == 0 ? $1 : NaN):($5 / 1e6) with lines lw 2 title "rank 0", \
     dir.'/beats.txt' using ($2 == 1 ? $1 : NaN):($5 / 1e6) with lines lw 2 title "rank 1"

set ylabel "gap between heartbeats [s]"
set logscale y
set yrange [0.005:20]
plot stops using (($1 + $2) / 2):(1):($1):($2):(0.005):(20) with boxxyerror lc rgb "#cc4444" notitle, \
     dir.'/beats.txt' using ($2 == 0 ? $1 : NaN):3 with points pt 7 ps 0.4 title "rank 0", \
     dir.'/beats.txt' using ($2 == 1 ? $1 : NaN):3 with points pt 7 ps 0.4 title "rank 1"
unset logscale y

set ylabel "move"
set xlabel "seconds"
set yrange [0.4:2.6]
set ytics ("node1" 1, "node2" 2)
set key outside bottom horizontal
set style fill solid 0.8 border
states = "RELEASING DETACHING PREPARING COPYING SWITCHING FINALISING ATTACHING LINK_UP RESUMING"
plot for [i = 1:words(states)] sprintf("< awk -v s=%s '$4 == s' %s/lanes.tsv", word(states, i), dir) \
     using (($2 + $3) / 2):1:2:3:($1 - 0.3):($1 + 0.3) with boxxyerror lc i title word(states, i)
unset multiplot
