// The shell of every page. README.md tells what a view is.

import { attribute, el, Formats, reshape, shape, text } from './kit.js';
import { History, Log, Recorder } from './past.js';
import { Stream } from './stream.js';
import { words } from './words.js';

const VIEWS = ['store', 'dataframe', 'lottery'];
const THEMES = ['auto', 'light', 'dark'];
const $ = (id) => document.getElementById(id);

/** Keeps a setting in the browser, if it may, or returns the one that was kept. */
function kept(name, value) {
	try {
		return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value);
	} catch {
		return null;
	}
}

class Shell {
	isEnglish = new URLSearchParams(location.search).get('lang') === 'en';
	language = this.isEnglish ? 'en' : 'es';
	words = { ...words };
	recorder = new Recorder();
	logs = [];
	/** The frame at which the page is paused, or `null`. */
	paused = null;
	isLive = null;
	motion = matchMedia('(prefers-reduced-motion: reduce)');
	hasKeys = kept('keys') !== 'off';

	/** Returns the text of `key` with these values in it, or the last part of a key that has no text. */
	say = (key, values = {}) => {
		const found = [this.words[key] ?? key.replace(/^.*?\./, '')].flat();
		const insert = (_, name, one, several) => (several === undefined ? values[name] : values[name] === 1 ? one : several);
		return found.at(this.isEnglish ? -1 : 0).replace(/\{(\w+)(?:\|(.*?)\|(.*?))?\}/g, insert);
	};

	formats = new Formats(this.language, this.say);

	start() {
		document.documentElement.lang = this.language;
		$('verdict-shape').append(shape('wait'));
		this.setTheme(kept('theme'));
		this.label();
		this.fillHelp();
		this.listen();
		this.stream = new Stream((frame) => this.take(frame), (isLive) => this.setLive(isLive));
		setInterval(() => document.hidden || this.showConnection(), 1000);
	}

	/** Whether nothing may move. */
	get still() {
		return this.motion.matches || document.hidden;
	}

	/** The key and value of a link such as #nodo=datanode2, or `null`. */
	get selected() {
		const [[key, value]] = [...new URLSearchParams(location.hash.slice(1)), []];
		return value ? { key, value } : null;
	}

	deselect() {
		history.pushState(null, '', location.pathname + location.search);
		this.show(null);
	}

	/** Returns a list that is kept complete from now on. */
	log(name, keep) {
		const log = new Log(name, keep, () => this.show(null));
		this.logs.push(log);
		return log;
	}

	async take(frame) {
		this.recorder.add(frame);
		this.opening ??= this.open(frame);
		if (!this.fill) return;
		this.note(frame);
		if (this.paused === null) this.show(this.recorder.before(frame));
		else this.showReplay();
	}

	async open({ kind }) {
		if (!VIEWS.includes(kind)) throw new Error(`no view of ${kind}`);
		this.view = await import(`./${kind}.js`);
		Object.assign(this.words, this.view.words);
		this.history = new History(this.view.sample);
		text($('title'), this.say('title'));
		$('view').dataset.kind = kind;
		this.fill = this.view.mount($('view'), this);
		this.fillHelp();
		this.note(this.recorder.newest);
		this.show(null);
	}

	note(frame) {
		for (const keeper of [this.history, ...this.logs]) keeper.take(frame);
	}

	/** Fills the page with the newest frame, or with that of the pause. */
	show(earlier) {
		const frame = this.paused ?? this.recorder.newest;
		if (!this.fill || !frame) return;
		this.showVerdict(frame);
		this.fill(frame, earlier);
		$('view').dataset.frame = `${frame.run}:${frame.n}`;
		this.showFiles(frame.files ?? []);
		text($('facts'), this.say('up', { time: this.formats.duration(frame.up_s) }));
		this.showReplay();
	}

	showVerdict(frame) {
		const { say } = this;
		const title = say('title');
		const said = this.view.verdict(frame, this);
		const isKnown = this.isLive !== false || this.paused !== null;
		attribute($('verdict'), 'data-level', isKnown ? frame.verdict.level : 'lost');
		reshape($('verdict-shape').firstElementChild, isKnown ? frame.verdict.level : 'wait');
		text($('verdict-text'), isKnown ? said.text : say('lost.verdict', { title }));
		text($('verdict-advice'), isKnown ? said.advice : say('lost.advice', { last: said.text }));
		// Of a page that is paused, or that nobody sees, the title does not tell how things are.
		const now = this.paused ? say('paused') : isKnown ? said.text : say('lost');
		document.title = document.hidden ? title : `${now} · ${title}`;
	}

	showFiles(files) {
		if (this.files === files.join()) return;
		this.files = files.join();
		const links = (key, all) => el('span', {}, this.say(key), ...all.flatMap(([href, name]) => [' ', el('a', { href }, name)]));
		const others = ['metrics', 'readyz?verbose'].map((path) => [`/${path}`, this.say(`link.${path}`)]);
		const own = files.length > 0 ? [links('files', files.map((name) => [`/files/${name}`, name]))] : [];
		$('files').replaceChildren(...own, links('others', others));
	}

	setLive(isLive) {
		this.isLive = isLive;
		this.showConnection();
		this.show(null);
	}

	showConnection() {
		const state = this.paused !== null ? 'paused' : { true: 'live', false: 'lost', null: 'wait' }[this.isLive];
		attribute($('connection'), 'data-state', state);
		text($('connection'), this.say(state));
		// The age changes each second. It is no text of the connection's state, which a screen reader reads out.
		const ago = this.formats.ago(Math.round(this.stream.age / 1000));
		attribute($('connection'), 'data-age', this.isLive === false && this.recorder.newest && this.say('last-frame', { ago }));
	}

	pause(frame) {
		this.paused = frame;
		const isPaused = frame !== null;
		attribute($('pause'), 'aria-pressed', String(isPaused));
		text($('pause'), this.say(isPaused ? 'resume' : 'pause'));
		$('replay').hidden = !isPaused;
		this.showConnection();
		this.show(null);
	}

	togglePause() {
		this.pause(this.paused === null ? this.recorder.newest : null);
	}

	step(count) {
		const { frames, newest } = this.recorder;
		if (!newest) return;
		const place = this.recorder.place(this.paused ?? newest) + count;
		const frame = frames[Math.min(Math.max(place, 0), frames.length - 1)];
		this.pause(frame);
		// A step forward shows what happened meanwhile.
		if (count > 0) this.fill(frame, this.recorder.before(frame));
	}

	showReplay() {
		if (this.paused === null) return;
		const { recorder, paused } = this;
		attribute($('moment'), 'max', recorder.frames.length - 1);
		$('moment').value = recorder.place(paused);
		const age = recorder.seconds(paused, recorder.newest);
		const shown = age < 0.25 ? this.say('now') : this.formats.ago(age);
		text($('moment-age'), shown);
		attribute($('moment'), 'aria-valuetext', `${shown}, ${this.formats.clock(paused.time)} UTC`);
	}

	label() {
		for (const element of document.querySelectorAll('[data-say]')) text(element, this.say(element.dataset.say));
		for (const element of document.querySelectorAll('[data-label]')) attribute(element, 'aria-label', this.say(element.dataset.label));
		this.other = this.isEnglish ? 'es' : 'en';
		Object.assign($('language'), { lang: this.other, hreflang: this.other, href: `?lang=${this.other}` });
	}

	/** Shows the page in the other language, with the same thing selected. */
	changeLanguage() {
		location.assign(`?lang=${this.other}${location.hash}`);
	}

	setTheme(theme) {
		this.theme = THEMES.includes(theme) ? theme : THEMES[0];
		document.documentElement.dataset.theme = this.theme;
		kept('theme', this.theme);
		text($('theme'), this.say(`theme.${this.theme}`));
	}

	nextTheme() {
		this.setTheme(THEMES[THEMES.indexOf(this.theme) + 1]);
	}

	listen() {
		const clicks = {
			// Not by the address, which tells what is selected.
			skip: () => $('view').focus(),
			language: () => this.changeLanguage(),
			pause: () => this.togglePause(),
			live: () => {
				this.pause(null);
				$('pause').focus();
			},
			back: () => this.step(-1),
			forward: () => this.step(1),
			theme: () => this.nextTheme(),
			'help-open': () => $('help').showModal(),
		};
		for (const [id, action] of Object.entries(clicks)) {
			$(id).addEventListener('click', (event) => {
				event.preventDefault();
				action();
			});
		}
		$('moment').addEventListener('input', () => this.pause(this.recorder.frames[$('moment').valueAsNumber]));
		for (const name of ['hashchange', 'popstate']) addEventListener(name, () => this.show(null));
		addEventListener('keydown', (event) => this.key(event));
	}

	key(event) {
		// Arrows move the slider by themselves, and scroll what has the focus.
		const isTaken = event.key.startsWith('Arrow') && event.target.closest('input, .scroll');
		if (!this.hasKeys || isTaken || event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
		const action = {
			'?': () => $('help').showModal(),
			p: () => this.togglePause(),
			ArrowLeft: () => this.step(-1),
			ArrowRight: () => this.paused && this.step(1),
			Escape: () => (this.selected ? this.deselect() : this.pause(null)),
			t: () => this.nextTheme(),
			l: () => this.changeLanguage(),
		}[event.key];
		if (!action) return;
		event.preventDefault();
		action();
	}

	fillHelp() {
		const { say } = this;
		const all = (prefix, make) => Object.keys(this.words).filter((key) => key.startsWith(prefix)).map((key) => make(key.slice(prefix.length), say(key)));
		const toggle = el('input', { type: 'checkbox', onchange: () => this.setKeys(toggle.checked) });
		toggle.checked = this.hasKeys;
		$('help').replaceChildren(
			el('form', { method: 'dialog' }, el('button', {}, say('close'))),
			el('h2', { id: 'help-title' }, say('help')),
			...all('help.', (_, paragraph) => el('p', {}, paragraph)),
			el('h3', {}, say('shapes')),
			el('ul', {}, ...all('shape.', (level, meaning) => el('li', {}, shape(level), meaning))),
			el('h3', {}, say('keys')),
			el('dl', {}, ...all('key.', (key, meaning) => el('div', {}, el('dt', {}, el('kbd', {}, key)), el('dd', {}, meaning)))),
			el('label', {}, toggle, say('keys.on')),
		);
	}

	setKeys(hasKeys) {
		this.hasKeys = hasKeys;
		kept('keys', hasKeys ? 'on' : 'off');
	}
}

new Shell().start();
