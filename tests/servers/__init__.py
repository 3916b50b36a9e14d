"""Real servers for tests: found by a setting, else started privately, else the test is skipped by name.

A test asks with `@pytest.mark.needs("postgres")` or by taking a fixture; `plugin` has them all. `finding` knows where a
server may come from, `supply` hands them out, `run` is what one pytest run shares, `private` is what every server of
our own can do, and `postgres` and `rabbit` are the two that we can start.
"""
