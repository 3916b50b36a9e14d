"""What Muelle promises in numbers, measured: `python -m bench [NAME…] [--quick]`.

Each module named in `FIGURES` measures one promise, on real processes and real servers, and holds it against a floor
(the least that the same libraries need) or a peer (the same thing done barely) in the same run: ratios travel between
machines, seconds do not. Nothing is assumed: what cannot be measured here is reported as not measured, and why.

`figure` says what a figure is, `ground` what it is measured on, `program` and `muelle` run the processes, `services`
has the small programs that stand beside them, `load` makes requests, `report` prints and writes.
"""
