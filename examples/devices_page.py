"""The pages of `devices`, without JavaScript. Everything that users can type is escaped."""

from html import escape

from asgi_redis_session import SessionInfo


def render(title: str, *parts: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
  body {{ max-width: 48rem; margin: 2rem auto; padding: 0 1rem }}
  table {{ width: 100%; border-collapse: collapse; margin: 1rem 0 }}
  caption, th, td {{ text-align: left; padding: .5rem .75rem .5rem 0; overflow-wrap: anywhere }}
  tr {{ border-bottom: 1px solid light-dark(#ddd, #444) }}
  button, input {{ font: inherit; padding: .3rem .75rem }}
  nav {{ display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; margin-top: 2rem }}
</style>
<main>
<h1>{title}</h1>
{"".join(parts)}
</main>
</html>
"""


def button(path: str, text: str, about: str = "") -> str:
    label = f' aria-label="{text}: {about}"' if about else ""
    return f'<form method="post" action="{path}"><button{label}>{text}</button></form>'


LOGIN = render(
    "Log in",
    """<form method="post" action="/login"><label>Your name
<input name="name" required maxlength="40" autocomplete="username"></label>
<button>Log in</button></form>""",
)
PASSWORD = render(
    "Confirm your password",
    """<p>You logged in some time ago. This example takes any password.</p>
<form method="post" action="/password"><label>Password
<input name="password" type="password" required autocomplete="current-password"></label>
<button>Confirm</button></form>""",
)
DELETE = render(
    "Delete your account?",
    "<p>This can't be undone. (It is only pretended here.)</p>",
    f'<nav>{button("/delete", "Delete my account")} <a href="/">Keep it</a></nav>',
)
DELETED = render("Your account is deleted", '<p>Not really. <a href="/">Start again</a></p>')


def account(user: str, devices: list[SessionInfo]) -> str:
    return render(
        "Your devices",
        f"<p>Hello, <strong>{escape(user)}</strong>. You are logged in here:</p>",
        "<table><thead><tr><th scope=col>Device<th scope=col>Address<th scope=col>Last seen"
        f"<th scope=col>Action</thead><tbody>{''.join(map(row, devices))}</tbody></table>",
        button("/devices/end-others", "End all others"),
        f'<nav>{button("/logout", "Log out")} <a href="/delete">Delete account</a></nav>',
    )


def row(device: SessionInfo) -> str:
    name = escape(device.label or device.user_agent or "Unknown device")
    end = button(f"/devices/{device.handle}/end", "End", name)
    return (
        f"<tr><th scope=row>{name}<td>{escape(device.address or 'unknown')}"
        f"<td><time>{device.last_seen:%Y-%m-%d %H:%M}</time> UTC"
        f"<td>{'this device' if device.current else end}"
    )
