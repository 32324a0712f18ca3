// Keeps what somebody has written through a reload, as long as the tab is open.

const NAME = "wanrun-draft";
let unread = JSON.parse(sessionStorage.getItem(NAME) ?? "null");

/** What was written before the page was loaded, as values by field; null for nothing, and from the second time on. */
export function takeDraft() {
  const draft = unread;
  unread = null;
  return draft;
}

/** Keeps these values, once those from before have been taken. */
export function keepDraft(values) {
  if (!unread) sessionStorage.setItem(NAME, JSON.stringify(values));
}
