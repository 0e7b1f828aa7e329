// Frames from the server, for all pages of a browser.

const LOCK = 'frames';
/** When to try again after an answer that is no stream, such as "too many pages". */
const RETRY_MS = 2000;
/** A connection that says nothing for so long, and for so many periods, is taken for lost. */
const SILENCE_MS = 3000;
const SILENT_PERIODS = 4;

/** Follows the server. Calls `onFrame(frame)` for each new frame, and `onState(isLive)` when that changes; `null` is not known. */
export class Stream {
	constructor(onFrame, onState) {
		Object.assign(this, { onFrame, onState, isLive: null });
		this.channel = new BroadcastChannel(LOCK);
		this.channel.onmessage = ({ data }) => (data === null ? this.setLive(false) : this.take(data));
		document.addEventListener('visibilitychange', () => this.follow());
		setInterval(() => this.checkSilence(), 500);
		this.follow();
	}

	/** Connects, or waits for its turn, if the page is seen. */
	follow() {
		this.ended?.abort();
		// Until the next frame, nobody knows.
		this.setLive(null);
		if (document.hidden) return;
		this.arrived = performance.now();
		this.ended = new AbortController();
		const { signal } = this.ended;
		// Browsers have locks only for addresses that they trust. Elsewhere each page that is seen has its own connection.
		if (!navigator.locks) this.connect(signal);
		else navigator.locks.request(LOCK, { signal }, () => this.connect(signal)).catch(() => {});
	}

	/** Returns a promise of the end of the connection, which keeps the lock till then. */
	connect(signal) {
		const source = new EventSource('/events');
		source.addEventListener('frame', ({ data }) => {
			this.channel.postMessage(data);
			this.take(data);
		});
		source.addEventListener('error', () => {
			this.channel.postMessage(null);
			this.setLive(false);
			// The browser tries again by itself only if the connection broke.
			if (source.readyState === EventSource.CLOSED) setTimeout(() => signal.aborted || this.connect(signal), RETRY_MS);
		});
		return new Promise((resolve) => signal.addEventListener('abort', () => resolve(source.close())));
	}

	take(data) {
		if (document.hidden) return;
		const frame = JSON.parse(data);
		this.arrived = performance.now();
		// When another page connects, a frame may come twice.
		const isNew = this.last?.run !== frame.run || frame.n > this.last.n;
		this.last = frame;
		if (isNew) this.onFrame(frame);
		this.setLive(true);
	}

	/** Milliseconds since the last frame. */
	get age() {
		return performance.now() - this.arrived;
	}

	checkSilence() {
		const limit = Math.max(SILENCE_MS, SILENT_PERIODS * (this.last?.period_ms ?? 0));
		if (!document.hidden && this.age > limit) this.setLive(false);
	}

	setLive(isLive) {
		if (this.isLive === isLive) return;
		this.isLive = isLive;
		this.onState(isLive);
	}
}
