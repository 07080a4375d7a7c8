// Warns two minutes before the session ends, and says so when it has ended.
const WARNING = 120
const notice = document.body.appendChild(document.createElement("dialog"))
const text = notice.appendChild(document.createElement("p"))
const stay = notice.appendChild(document.createElement("button"))
stay.textContent = "Stay signed in"
let timer
let hadSession = false

async function look(path = "/session/left") {
  clearTimeout(timer)
  const answer = await fetch(path, { cache: "no-store" }).catch(() => null)
  if (!answer?.ok) return wait(10)
  const { seconds } = await answer.json()
  if (seconds === null) {
    if (hadSession) show("Your session has ended.")
    stay.hidden = true
  } else if (seconds <= WARNING) {
    show(`Your session ends in ${Math.max(1, Math.round(seconds / 60))} min.`)
    wait(seconds + 1)
  } else {
    notice.close()
    wait(seconds - WARNING) // another tab may have used the session meanwhile, so look again
  }
  hadSession ||= seconds !== null
}

function wait(seconds) {
  timer = setTimeout(look, Math.min(seconds, 86_400) * 1000)
}

function show(message) {
  text.textContent = message
  if (!notice.open) notice.showModal()
}

stay.onclick = () => look("/session/stay") // any request that extends the session
document.onvisibilitychange = () => document.hidden || look() // timers of a hidden tab are late
look()
