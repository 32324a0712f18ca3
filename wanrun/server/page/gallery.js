// Shows the videos that there are, and what became of the others.

import { media } from "/page/api.js";
import { element, reconcile } from "/page/lists.js";
import { statusLine } from "/page/stage.js";
import { joined, moment } from "/page/words.js";
import { active } from "/page/watch.js";

const SMALL = 200;
const section = document.getElementById("gallery");
const list = document.getElementById("videos");

/** Shows what is over among ``videos``; ``chosen`` is the one on the stage. */
export function showGallery(videos, chosen, more) {
  const over = videos.filter((video) => !active(video));
  section.hidden = over.length === 0 && !section.contains(document.activeElement);
  document.getElementById("older").hidden = !more;
  reconcile(list, over, entry, (node, video) => {
    const link = node.firstElementChild;
    if (video.id === chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}

function entry(video) {
  const tile = element("span", { className: "tile" });
  if (video.status === "completed") picture(video, tile);
  else tile.append(statusLine(video));
  const when = moment(video.completed_at ?? video.created_at);
  const words = [element("strong", {}, video.prompt), element("small", {}, joined(video.size.replace("x", " × "), when))];
  return element("li", {}, element("a", { href: `#${video.id}` }, tile, ...words));
}

async function picture(video, tile) {
  const small = Math.max(...video.size.split("x").map(Number)) <= SMALL;
  const image = element("img", { alt: "", loading: "lazy", className: small ? "small" : "" });
  tile.append(image);
  image.src = await media(video.id, "thumbnail");
}
