"""Real servers for tests: found by a setting, else started privately, else the test is skipped by name.

A test asks with `@pytest.mark.needs("postgres")` or by taking a fixture; `plugin` has them all. `finding` knows where a
server may come from, `run` what one pytest run shares, `private` what every server of our own can do, and `postgres`
and `rabbit` the two that we can start.
"""
