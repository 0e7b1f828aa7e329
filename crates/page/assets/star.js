// A program in the middle, and around it those that it talks to.

import { attribute, el, keyed, outline, reshape, shape, svg, text } from './kit.js';

/** Above this many messages a second, dots would only flicker. */
const MAX_DOTS_PER_SECOND = 20;
/** Above this many nodes a grid shows more than a star. */
export const MAX_AROUND = 64;
/** Up to so many nodes have names around the star, and words under their names; of more, up to so many that are not well. */
const NAMED = 12;
const WITH_WORDS = 8;
const NAMED_OF_MANY = 6;
const RING_MS = 700;
const DOT_MS = 550;
const HUB_RADIUS = 40;

const translate = ({ x, y }, unit = '') => `translate(${x.toFixed(1)}${unit},${y.toFixed(1)}${unit})`;

export class Star {
	/** `hub` is the name of the program in the middle. */
	constructor(hub) {
		const layer = (name) => svg('g', { class: name });
		[this.spokes, this.around, this.hub] = ['spokes', 'around', 'hub'].map(layer);
		this.rate = svg('text', { class: 'word', y: 16 });
		this.hub.append(svg('circle', { r: HUB_RADIUS }), svg('text', { class: 'label', y: -1 }, hub), this.rate);
		// A table says the same to those who do not see it.
		this.picture = svg('svg', { 'aria-hidden': 'true' }, this.spokes, this.around, this.hub);
		this.moving = el('div', { class: 'moving', 'aria-hidden': 'true' });
		this.element = el('div', { class: 'star' }, this.picture, this.moving);
		this.size = { width: 520, height: 330 };
		this.nodes = [];
		new ResizeObserver(([entry]) => this.resize(entry.contentRect)).observe(this.element);
	}

	resize({ width, height }) {
		if (width < 1 || height < 1) return;
		this.size = { width, height };
		attribute(this.picture, 'viewBox', `0 0 ${width} ${height}`);
		this.moving.replaceChildren();
		this.draw();
	}

	/** Draws nodes. `flow` is how many messages went to a node since the frame before, and `rate` how many do in a second. */
	show(nodes, rateText, isStill) {
		Object.assign(this, { nodes, isStill });
		text(this.rate, rateText);
		this.draw();
	}

	draw() {
		const { nodes, size } = this;
		const count = nodes.length;
		// The first one is at the top; two are side by side. The hub is not in the middle if one side has no nodes.
		const start = count === 2 ? Math.PI : -Math.PI / 2;
		const angles = nodes.map((_, index) => start + (index / count) * 2 * Math.PI);
		const across = spread(angles.map(Math.cos), size.width, 56);
		const down = spread(angles.map(Math.sin), size.height, count <= NAMED ? 56 : 26);
		this.center = { x: across(0), y: down(0) };
		this.places = new Map(nodes.map(({ key }, index) => {
			const [x, y] = [Math.cos(angles[index]), Math.sin(angles[index])];
			return [key, { x: across(x), y: down(y), isAbove: y < -0.5 }];
		}));
		// Where nothing may move, lines tell the rate, however low.
		this.isBusy = this.isStill || nodes.reduce((sum, node) => sum + node.rate, 0) > MAX_DOTS_PER_SECOND;
		attribute(this.hub, 'transform', translate(this.center));
		this.drawSpokes();
		this.radius = count <= WITH_WORDS ? 17 : count <= NAMED ? 12 : count <= 40 ? 9 : 7;
		this.drawNodes();
	}

	drawSpokes() {
		const { center: { x, y }, places, isBusy } = this;
		const make = () => svg('g', {}, svg('line'), svg('line', { class: 'flow' }), svg('text', { class: 'word' }));
		keyed(this.spokes, this.nodes, make, (group, node) => {
			const place = places.get(node.key);
			const [spoke, flow, rate] = group.children;
			const ends = { x1: x, y1: y, x2: place.x, y2: place.y };
			for (const line of [spoke, flow]) for (const name in ends) attribute(line, name, ends[name].toFixed(1));
			attribute(spoke, 'class', `spoke ${node.level}`);
			const flows = isBusy && node.rate > 0;
			// The width grows with the rate's logarithm: 20/s and 100,000/s both have to be seen.
			attribute(flow, 'stroke-width', flows && Math.min(18, 1.5 + 3 * Math.log10(1 + node.rate)).toFixed(1));
			attribute(rate, 'transform', translate({ x: x + (place.x - x) * 0.55, y: y + (place.y - y) * 0.55 }));
			text(rate, flows && this.nodes.length <= NAMED ? node.rateText : '');
		});
	}

	drawNodes() {
		const { radius, nodes: { length } } = this;
		const areFewUnwell = this.nodes.filter(({ level }) => level !== 'ok').length <= NAMED_OF_MANY;
		const hasWord = length <= WITH_WORDS;
		const make = ({ href }) => svg('a', { href, tabindex: -1 }, svg('title'), svg('circle', { class: 'halo', r: radius + 5 }),
			svg('path', { 'fill-rule': 'evenodd' }), svg('text', { class: 'label' }), svg('text', { class: 'word' }));
		keyed(this.around, this.nodes, make, (group, { key, level, word, isSelected }) => {
			const place = this.places.get(key);
			const [title, halo, mark, label, state] = group.children;
			attribute(group, 'transform', translate(place));
			attribute(group, 'class', `node ${level}`);
			attribute(group, 'data-selected', isSelected);
			text(title, `${key}: ${word}`);
			attribute(halo, 'r', radius + 5);
			attribute(mark, 'd', outline(level));
			attribute(mark, 'transform', `scale(${radius / 8}) translate(-8 -8)`);
			text(label, length <= NAMED || (level !== 'ok' && areFewUnwell) ? key : '');
			text(state, hasWord ? word : '');
			const away = place.isAbove ? -radius - (hasWord ? 24 : 10) : radius + 17;
			attribute(label, 'y', away);
			attribute(state, 'y', away + 14);
		});
	}

	/** Shows each new message as a dot on its way, some time within `period` milliseconds. */
	sendDots(period) {
		for (const { key, flow } of this.isBusy ? [] : this.nodes) {
			for (let count = 0; count < flow; count += 1) this.move('dot', key, ((count + Math.random()) / flow) * period);
		}
	}

	/**
	 * Shows the probes that were sent since the frame before, and the answers that came. A node's `answered` is the last round
	 * that it has answered, `answeredBefore` that in the frame before, and `attempt` tells which probe it answered.
	 */
	sendRings(round, before) {
		const isNew = round.n !== before.n;
		const isRetry = round.attempts > (isNew ? 1 : before.attempts);
		for (const { key, answered, answeredBefore, attempt } of this.nodes) {
			const answersNow = answered === round.n && answeredBefore !== round.n;
			const rings = isNew ? ['ring'] : [];
			if (isRetry && (answered !== round.n || (answersNow && attempt > 1))) rings.push('ring retry');
			if (answersNow) rings.push(attempt > 1 ? 'ring answer retry' : 'ring answer');
			rings.forEach((kind, index) => this.move(kind, key, index * RING_MS));
		}
	}

	move(kind, key, delay) {
		const { center: hub, places, radius } = this;
		const place = places.get(key);
		const [x, y] = [place.x - hub.x, place.y - hub.y];
		const length = Math.hypot(x, y);
		const ends = [HUB_RADIUS, length - radius].map((far) => ({ x: hub.x + (x * far) / length, y: hub.y + (y * far) / length }));
		const [from, to] = (kind.includes('answer') ? ends.reverse() : ends).map((end) => translate(end, 'px'));
		const isDot = kind === 'dot';
		const thing = el('i', { class: kind });
		this.moving.append(thing);
		const seen = [{ transform: from, opacity: 0 }, { opacity: 1, offset: 0.12 }, { opacity: 1, offset: 0.85 }, { transform: to, opacity: 0 }];
		const timing = { delay, duration: isDot ? DOT_MS : RING_MS, easing: 'ease-in-out', fill: 'backwards' };
		thing.animate(seen, timing).onfinish = () => thing.remove();
	}
}

/** Turns places of -1 to 1 into places within `size`, so that `values` and the hub, at 0, use all of it but the margins. */
function spread(values, size, margin) {
	const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
	// What has no width, or nearly none, is in the middle.
	if (most - least < 0.01) return () => size / 2;
	return (value) => margin + ((value - least) / (most - least)) * (size - 2 * margin);
}

/** Shows many nodes in the given order. */
export function showGrid(list, nodes) {
	const make = ({ href, key }) => el('li', {}, el('a', { href }, shape('wait'), el('b', {}, key), el('small')));
	keyed(list, nodes, make, (tile, { level, word }) => {
		const [picture, , state] = tile.firstElementChild.children;
		reshape(picture, level);
		text(state, word);
	});
}
