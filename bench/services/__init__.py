"""The programs that stand beside Muelle while it is measured.

`rooms` has two small rooms made of the real kit, one that tells numbered facts and one that hears them; `process` runs
one or both as a service. `bare_queue`, `bare_rabbit` and `bare_http` are peers: the same thing done barely.
"""
