// Keeps the server's API key, where it asks for one, and asks for it once at a time.

const NAME = "wanrun-key";
const dialog = document.getElementById("lock");
const input = document.getElementById("key");
let asking = null;

export function apiKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Resolves once there is another key than ``refused``. */
export function askForKey(refused) {
  if (apiKey() !== refused) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    input.value = "";
    dialog.showModal();
    dialog.addEventListener("close", () => resolve(sessionStorage.setItem(NAME, input.value)), { once: true });
  }).finally(() => (asking = null));
  return asking;
}

// without a key there is nothing to see
dialog.addEventListener("cancel", (event) => event.preventDefault());
