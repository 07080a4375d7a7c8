// Every page works without this script. With it, a page follows what happens to its session.
const WARNING = 60 // seconds before the end
const notice = document.getElementById("notice")
const text = document.getElementById("notice-text")
const button = document.getElementById("notice-button")
const ttl = document.getElementById("ttl")
let end = ttl ? performance.now() + ttl.dataset.seconds * 1000 : null
let dismissed = false

function say(message, label, action) {
  text.textContent = message
  button.textContent = label
  button.onclick = action
  if (!notice.open) notice.showModal()
}

function reload() {
  location.reload()
}

async function stay() {
  notice.close()
  const answer = await fetch("/session/stay", { cache: "no-store" }).catch(() => null)
  if (!answer?.ok) return
  const { seconds } = await answer.json()
  if (seconds === null) say("Your session has ended.", "Continue", reload)
  else end = performance.now() + seconds * 1000
}

function inWords(seconds) {
  if (seconds >= 86_400) return `${Math.round(seconds / 86_400)} days`
  return seconds >= 60 ? `${Math.ceil(seconds / 60)} min` : `${seconds} s`
}

function tick() {
  if (end === null) return
  const seconds = Math.max(0, Math.round((end - performance.now()) / 1000))
  ttl.textContent = seconds >= 86_400 ? inWords(seconds) : `${seconds} s`
  document.getElementById("left").textContent = inWords(seconds)
  if (seconds > WARNING) dismissed = false
  else if (seconds > 0 && !dismissed) {
    dismissed = true
    say(`Your session ends in ${inWords(seconds)}.`, "Stay signed in", stay)
  }
}

// Replaces the content of an element; what was focused in it is focused again.
function put(id, html) {
  const element = document.getElementById(id)
  const focused = element.contains(document.activeElement) && document.activeElement.id
  element.innerHTML = html
  if (focused) document.getElementById(focused)?.focus()
}

function follow() {
  const events = new EventSource(`/live/${document.body.dataset.view}`)
  events.onmessage = ({ data }) => {
    const changes = JSON.parse(data)
    if (changes.ttl !== null) end = performance.now() + changes.ttl * 1000
    for (const [id, html] of Object.entries(changes.parts)) put(id, html)
    tick()
  }
  events.addEventListener("ended", ({ data }) => {
    events.close()
    end = null
    const { kind, reason } = JSON.parse(data)
    if (["replaced", "logged_out"].includes(kind)) return reload() // in another tab
    const why = kind === "revoked" ? `This device was signed out: ${reason}.` : "Your session has ended."
    say(why, "Continue", reload)
  })
  // A form's own answer says what has happened; a reload would be faster, and cancel it.
  for (const left of ["submit", "pagehide"]) addEventListener(left, () => events.close())
}

if (ttl) {
  follow()
  tick()
  setInterval(tick, 1000)
}
addEventListener("pageshow", ({ persisted }) => persisted && reload())
