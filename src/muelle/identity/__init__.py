"""Identity: accounts, sessions, API keys, roles, second factors, and log-in through providers."""
