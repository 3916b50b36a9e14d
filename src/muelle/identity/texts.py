"""The letters that identity writes, in English and Spanish."""

from __future__ import annotations

from muelle.identity.letters import Letter

RESET_HOURS = 1
VERIFY_HOURS = 48

_VERIFY = """Hello,

to confirm that this address is yours, log in at {url} and enter this code, or run
`muelle verify-email {token}`:

    {token}

It is good for {hours} hours. If you have not opened an account, do nothing: nobody can use your address.

--

Hola:

para confirmar que esta dirección es tuya, inicia sesión en {url} e introduce el código de arriba.
Vale {hours} horas. Si no has abierto ninguna cuenta, no hagas nada: nadie puede usar tu dirección.
"""

_RESET = """Hello,

somebody, hopefully you, asked for a new password at {url}. Use this code for it:

    {token}

It is good for {hours} hour and works once. If it was not you, do nothing: your password stays as it is.

--

Hola:

alguien, ojalá tú, ha pedido una contraseña nueva en {url}. Usa para ello el código de arriba.
Vale {hours} hora y sirve una sola vez. Si no fuiste tú, no hagas nada: tu contraseña sigue como está.
"""


def verify_letter(to: str, token: str, url: str) -> Letter:
    text = _VERIFY.format(token=token, url=url, hours=VERIFY_HOURS)
    return Letter("verify", to, "Confirm your address · Confirma tu dirección", text)


def reset_letter(to: str, token: str, url: str) -> Letter:
    text = _RESET.format(token=token, url=url, hours=RESET_HOURS)
    return Letter("reset", to, "A new password · Una contraseña nueva", text)
