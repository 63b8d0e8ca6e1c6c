// Pieces of text as nodes: strings, formulas, cuts. A formula's tree holds tags of MathML only.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MATH_TAGS = new Set(("math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup " +
  "munder mover munderover mtable mtr mtd mpadded mphantom menclose mstyle").split(" "));

function formula(tree) {
  const [tag, attributes, ...children] = tree;
  if (!MATH_TAGS.has(tag)) return document.createTextNode("");
  const node = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) {
    node.append(...(Array.isArray(child) ? [formula(child)] : visible(child)));
  }
  return node;
}

function pieces(list, context = {}) {
  return list.map((piece) => {
    if (typeof piece === "string") return visible(piece);
    if (piece.m) {
      const node = formula(piece.m);
      node.setAttribute("aria-label", piece.s);
      return el("span", { class: "formula", title: piece.s }, node);
    }
    if (piece.cut) {
      const where = piece.line ? `: see line ${number(piece.line)} of the journal` : "";
      return el("span", { class: "cut" }, `${number(piece.cut)} characters are not shown${where}`);
    }
    if (piece.mark) return el("span", { class: "marked" }, context.marks?.[piece.mark - 1] || "mark");
    return null;
  });
}
