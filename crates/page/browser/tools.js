// What the tests measure in the page.

/** A computed colour as [red, green, blue, opacity]; the colours are 0 to 1. */
function colour(value) {
  const numbers = value.match(/-?[\d.]+(e-?\d+)?/g)?.map(Number) ?? [0, 0, 0, 0];
  const scale = value.startsWith('rgb') ? 255 : 1;
  const [red, green, blue, opacity = 1] = numbers;
  return value === 'none' ? [0, 0, 0, 0] : [red / scale, green / scale, blue / scale, opacity];
}

/** What is seen behind the text of an element. */
function background(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const layer = colour(getComputedStyle(at).backgroundColor);
    layers.unshift(layer);
    if (layer[3] === 1) break;
  }
  return layers.reduce((under, over) => under.map((value, index) => value + (over[index] - value) * over[3]), [1, 1, 1]);
}

/** https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function isSeen(element) {
  return element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && element.getBoundingClientRect().width > 0;
}

/** Each text, and each shape that has a meaning, whose contrast is below `least`; and how many were looked at. */
function faint(least) {
  const problems = [];
  let looked = 0;
  const open = document.querySelector('dialog[open]') ?? document.body;
  for (const element of open.querySelectorAll('*')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const isShape = element.matches('.shape');
    if ((!hasText && !isShape) || !isSeen(element)) continue;
    const style = getComputedStyle(element);
    const ink = colour(element instanceof SVGElement ? style.fill : style.color);
    // Text in a drawing stands on a rim of the card's colour, and a shape on the card.
    const behind = background(element.closest('svg')?.parentElement ?? element);
    const ratio = contrast(behind.map((value, index) => value + (ink[index] - value) * ink[3]), behind);
    looked += 1;
    if (ratio < least) problems.push(`${element.tagName}.${element.getAttribute('class')} ${JSON.stringify(element.textContent.slice(0, 40))}: ${ratio.toFixed(2)}`);
  }
  return { looked, problems };
}

/** Elements that reach beyond the width of the page, except within what scrolls by itself. */
function tooWide() {
  const wide = document.documentElement.clientWidth;
  const found = [...document.querySelectorAll('body *')].filter((element) => isSeen(element) && element.getBoundingClientRect().right > wide + 0.5 && !element.closest('.scroll'));
  return { wide, scrolls: document.documentElement.scrollWidth > wide, found: found.map((element) => element.outerHTML.slice(0, 120)) };
}

/** The element with the focus: its text or name, and whether it is seen to have the focus. */
function focused() {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const name = element.getAttribute('aria-label') || element.textContent.trim().slice(0, 60);
  return { id: element.id, tag: element.tagName, name, isBody: element === document.body, isMarked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
}

/** What moves at present: the classes of the animated elements. */
function moving() {
  return document.getAnimations().filter((animation) => animation.playState === 'running').map(({ effect }) => effect.target.getAttribute('class') ?? effect.target.tagName);
}
