"""Signing in through somebody else: Google, and any other OpenID Connect provider.

    openid = OpenId([google(client_id, client_secret)], http=httpx.AsyncClient, clock=clock)
    vouched = await openid.verify("google", id_token)                  # a token that a browser or an app got itself
    begun = await openid.begin("google", redirect_uri)                 # or: send the person to begun.url, and when
    vouched = await openid.finish("google", code, redirect_uri, begun.code_verifier, begun.nonce)   # they are back

It promises that a `Vouched` comes only from an ID token whose signature fits a key that the provider publishes, made
by an asymmetric algorithm from a short list, for our client id, in force by our clock. Everything else ends in
`TokenNotVouched`, whose reason never quotes the token, or in `ProviderUnavailable`.

What it leaves to its caller: to keep `state` with the provider's name, the redirect address, the verifier and the
nonce, for one use by one browser; and to mind `email_verified`, since an unverified address proves nothing. Without a
nonce an ID token can be shown again until it expires.

Access tokens are not accepted, Google's neither: one names no audience that we can trust, so a token that a person
gave to any other application would open their account here.

Authlib builds the requests (authorization URL, PKCE, client authentication) and judges the claims; its `jose` part has
moved to joserfc, which checks the signatures. Authlib's own HTTP client is left out: it is leaving httpx behind, and it
bounds neither the size of an answer nor the time for all of it.

Import from its modules: `errors` costs nothing, `openid` brings Authlib along, which only those need who sign in so.
"""
