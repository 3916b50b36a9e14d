"""Host names -> running workloads: a table made from facts, and the proxy that goes by it.

`table` says where a name leads, `store` keeps what it is made from, `proxy` answers requests by it and `pages` says why
where there is nobody to answer. Traffic never waits for the database: the proxy looks into the table in memory, which
each fact changes as soon as it comes.
"""
