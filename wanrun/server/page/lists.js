// Makes a list show some items, and leaves alone what is there already: focus, scrolling and pictures stay.

/** ``make(item)`` gives a new node, ``update(node, item)`` has it show the item. */
export function reconcile(list, items, make, update) {
  const unused = new Map([...list.children].map((node) => [node.dataset.id, node]));
  items.forEach((item, index) => {
    const node = unused.get(item.id) ?? make(item);
    unused.delete(item.id);
    node.dataset.id = item.id;
    update(node, item);
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
  });
  for (const node of unused.values()) {
    const focused = node.contains(document.activeElement);
    node.remove();
    if (focused) list.closest("section").querySelector("h2").focus();
  }
}

/** An element with properties, and children that are elements or plain text. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
