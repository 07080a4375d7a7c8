"""
An OpenID provider to try a login with: what does an app see of a real one?

    pip install joserfc python-multipart
    uvicorn examples.recipes.openid_provider:app --port 9000

It asks for no password: everybody is Ada. It checks what the app sends, as a real one does.
"""

import base64
import hashlib
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

KEY = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
SECRET = "a secret between the two"
#: What was asked for, by code. A code is used once.
asked: dict[str, dict[str, str]] = {}


async def describe(request: Request) -> JSONResponse:
    base = str(request.base_url).rstrip("/")
    return JSONResponse(
        {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


async def keys(request: Request) -> JSONResponse:
    return JSONResponse({"keys": [KEY.as_dict(private=False)]})


async def authorize(request: Request) -> RedirectResponse:
    code = secrets.token_urlsafe()
    asked[code] = dict(request.query_params)
    answer = urlencode({"code": code, "state": asked[code]["state"]})
    return RedirectResponse(f"{asked[code]['redirect_uri']}?{answer}", 303)


async def token(request: Request) -> JSONResponse:
    form = await request.form()
    question = asked.pop(str(form["code"]), None)
    verifier = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
    challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
    login = base64.b64encode(f"shop:{SECRET}".encode()).decode()
    is_client = request.headers.get("authorization") == f"Basic {login.replace(' ', '+')}"
    if question is None or question["code_challenge"] != challenge or not is_client:
        return JSONResponse({"error": "invalid_grant"}, 400)
    now, issuer = int(time.time()), str(request.base_url).rstrip("/")
    who: dict[str, Any] = {"sub": "ada", "email": "ada@example.com", "nonce": question["nonce"]}
    claims = {**who, "iss": issuer, "aud": question["client_id"], "iat": now, "exp": now + 300}
    id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, KEY)
    return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": id_token})


app = Starlette(
    routes=[
        Route("/.well-known/openid-configuration", describe),
        Route("/keys", keys),
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
    ]
)
