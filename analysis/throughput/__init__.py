"""How fast models are, side by side, and how much of the FLOPs saving is time saved.

    specs → variants → turns, memory → table        one workload: who, in which mode, by turns, in rows
    sweep, breakeven                                several workloads, and where a method starts to pay
    roofline, split                                 the time of each part beside what its FLOPs would take, by kind
    deployed, int8                                  in other runtimes, and there with weights in 8 bits
    alike, crossover, readme                        against a like dense model; where it does not pay; README's row
    printed                                         the papers' own throughput, held against itself
    suites, report                                  named runs, their records, and the page made from them

``python -m analysis.throughput --help`` lists the options.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler announces itself on standard error
