//! Requests and answers of the providers' APIs: the cost of a request, and the tokens of an answer, also while it
//! streams.

mod count;
mod error;
mod meter;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use limiter_core::{BoxError, MAX_COUNT, Settled};
use pin_project_lite::pin_project;

pub use self::count::CountTokens;
pub use self::error::StreamError;
use self::meter::{Meter, State};
use crate::price::Price;
pub use crate::provider::{
    AnswerReader, Api, ApiRequest, Reported, RequestChanges, RequestError, TokenSource, UnknownApi,
    tokens_of_text,
};
use crate::reservation::Reservation;
use crate::user_code::UserCode;

pin_project! {
    /// Counts the tokens of an answer while it streams, and keeps the [`Reservation`] of its call in step with them.
    ///
    /// It wraps a [`Stream`] of chunks or an HTTP [`Body`] and is one itself, of the same chunks. Their tokens are
    /// counted by an [`AnswerReader`](crate::stream::AnswerReader), a function, or any other [`CountTokens`].
    ///
    /// ```
    /// use futures_util::{StreamExt, stream};
    /// use limiter::stream::StreamMeter;
    /// use limiter::{AssetId, Estimate};
    ///
    #[doc = include_str!("example.md")]
    /// let gpt5: AssetId = "gpt-5".parse()?;
    /// let estimate = Estimate::for_input_tokens(120).max_output_tokens(500);
    /// let call = limiter.reserve_estimated(&key, &gpt5, &estimate).await?.allowed().expect("it fits");
    ///
    /// let upstream = stream::iter(["one", "two", "three"]).map(Ok::<_, std::io::Error>);
    /// let mut answer = StreamMeter::stream(upstream, call, |_word: &&str| 1).ending_at_limit();
    /// while let Some(word) = answer.next().await {
    ///     println!("{}", word?);
    /// }
    /// # let usage = limiter.usage(&key).await?.expect("the key lives");
    /// # assert_eq!(usage.scopes[0].rules[0].used, 123);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # While it streams
    /// A chunk that would pass the estimate waits until the reservation is [amended](Reservation::amend), in
    /// [steps](Self::with_step); nothing is taken from upstream meanwhile. So each chunk is charged before it is passed
    /// on. In return, one chunk in a thousand tokens takes a call of the store longer. A stream of n tokens more than
    /// were reserved makes at most ⌈n ÷ step⌉ amendments, and one settlement.
    ///
    /// A call that holds slots of a [parallel limit](limiter_core::LimitsBuilder::parallel) holds them while chunks pass: once a
    /// minute an amendment that changes nothing renews them, beside the stream.
    ///
    /// The caller chooses the effect of a denied amendment:
    /// - By default the stream goes on, and the next step asks again. Nothing is lost: the overrun is charged when the
    ///   call is settled, also past the limit.
    /// - [`ending_at_limit`](Self::ending_at_limit) ends the stream.
    ///
    /// # When it ends
    /// The reservation is settled before the stream's end is passed on: by the figures that upstream
    /// [reported](CountTokens::reported), or else by the tokens that were counted, and the input as estimated. If
    /// something [could not be counted](CountTokens::estimate_stands), the estimate stands; the metric
    /// `limiter_answers_total` counts it and a warning is logged.
    ///
    /// If the client leaves, the meter is dropped, and a task settles the tokens seen. It runs on the tokio runtime
    /// that the meter was last created or polled on. If there is none, or it has ended, the estimate stands as charged,
    /// and a warning is logged through `tracing`.
    ///
    /// An error of upstream is passed on as [`StreamError::Upstream`]; the chunks before it count. If the counter panics,
    /// the stream ends with [`StreamError::Uncounted`], so that no uncounted chunk is passed on.
    ///
    /// # When the store cannot answer
    /// A settlement is tried three times, each up to the store's deadline; it counts once, however often it is
    /// repeated. If it fails, an error through `tracing` has key, id and figures, by which
    /// [`Limiter::settle`](crate::Limiter::settle) can still settle the call. The answer itself is not affected. An
    /// amendment that fails is logged as a warning, and asked for again at the next step. If the stream ends at its
    /// limit, the amendment is tried three times and then ends the stream, since an error never allows a chunk.
    #[must_use = "a stream does nothing unless it is polled"]
    pub struct StreamMeter<S, C, K> {
        // Dropped as soon as the stream has ended, so that upstream stops.
        #[pin]
        upstream: Option<S>,
        tokens: K,
        held: Option<Held<C>>,
        // The last item, passed on once the reservation is settled.
        last: Option<StreamError>,
        meter: Meter,
        // Counts the text that the counter has held back.
        count_rest: fn(&mut K) -> Option<(u64, State)>,
    }

    impl<S, C, K> PinnedDrop for StreamMeter<S, C, K> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // The answer is cut: the client has received the beginning of the text that was held back.
            if this.upstream.is_some() && let Some((tokens, state)) = (this.count_rest)(this.tokens) {
                this.meter.saw(tokens, state);
            }
        }
    }
}

fn count_rest<C, K: CountTokens<C>>(tokens: &mut K) -> Option<(u64, State)> {
    COUNT_TOKENS.run(|| {
        let rest = tokens.end();
        (rest, State::of(tokens))
    })
}

/// A chunk that is counted but not passed on yet.
struct Held<C> {
    chunk: C,
    tokens: u64,
}

/// An item of upstream: a chunk to count, or something else to pass on.
type Piece<C, T> = Result<C, T>;

impl<S, C, K> StreamMeter<S, C, K> {
    /// Meters a stream of chunks. If its items are no `Result`, map them with `Ok::<_, Infallible>`.
    pub fn stream<E>(stream: S, call: Reservation, tokens: K) -> Self
    where
        S: Stream<Item = Result<C, E>>,
        K: CountTokens<C>,
    {
        Self::new(stream, call, tokens)
    }

    /// Meters an HTTP body. Its chunks are the data of its frames; trailers are passed on.
    pub fn body(body: S, call: Reservation, tokens: K) -> Self
    where
        S: Body<Data = C>,
        K: CountTokens<C>,
    {
        Self::new(body, call, tokens)
    }

    fn new(upstream: S, call: Reservation, tokens: K) -> Self
    where
        K: CountTokens<C>,
    {
        // The client may leave before the first chunk.
        let state = COUNT_TOKENS.run(|| State::of(&tokens)).unwrap_or_default();
        let meter = Meter::new(call, state);
        Self {
            upstream: Some(upstream),
            tokens,
            held: None,
            last: None,
            meter,
            count_rest: count_rest::<C, K>,
        }
    }

    /// Sets the number of output tokens of one amendment; [`Self::DEFAULT_STEP`] by default.
    ///
    /// A larger step calls the store less often, and takes more from other calls of the key until it is settled. 0
    /// becomes 1.
    pub fn with_step(mut self, tokens: u64) -> Self {
        self.meter.step = tokens.clamp(1, MAX_COUNT);
        self
    }

    /// Extends and settles credits too, at this price. The default is the [reservation's](Reservation::price). Without
    /// any price, the credits stay as they were reserved, unless upstream [reported](CountTokens::reported) others.
    pub fn with_price(mut self, price: Price) -> Self {
        self.meter.price = Some(price);
        self
    }

    /// Ends the stream when a chunk does not fit into the limits or the budget, or when the key has expired. The chunk
    /// is neither passed on nor charged, upstream is dropped, the call is settled, and the last item is
    /// [`StreamError::Denied`].
    ///
    /// The rest of a limit is used up first: if a whole step does not fit, the meter asks for as much as fits, and
    /// finally for the chunk alone. That is at most three calls of the store for a chunk.
    ///
    /// In an HTTP body an error aborts the answer. To end it with a message instead, meter the stream of chunks and map
    /// its last item:
    ///
    /// ```
    /// # use futures_util::{Stream, StreamExt};
    /// # use limiter::Reservation;
    /// # use limiter::stream::{AnswerReader, Api, StreamError, StreamMeter};
    /// fn answer(
    ///     upstream: impl Stream<Item = Result<Vec<u8>, std::io::Error>>,
    ///     call: Reservation,
    /// ) -> impl Stream<Item = Result<Vec<u8>, StreamError>> {
    ///     let reader = AnswerReader::new(Api::OpenAiChat);
    ///     StreamMeter::stream(upstream, call, reader).ending_at_limit().map(|item| match item {
    ///         Err(StreamError::Denied(denied)) => {
    ///             let error = serde_json::json!({ "error": { "message": denied.to_string() } });
    ///             Ok(format!("data: {error}\n\ndata: [DONE]\n\n").into_bytes())
    ///         }
    ///         item => item,
    ///     })
    /// }
    /// ```
    pub fn ending_at_limit(mut self) -> Self {
        self.meter.ends_at_limit = true;
        self
    }

    /// Returns a future of the final charge, to bill from. It is ready once the call is settled, even after the client
    /// has left. `None` if the call could not be settled: its estimate stands, and `tracing` logs it.
    ///
    /// Subscribe before the stream is polled or handed on:
    ///
    /// ```
    /// # use limiter::Reservation;
    /// # use limiter::stream::{AnswerReader, Api, StreamMeter};
    /// # fn forward(upstream: http_body_util::Empty<bytes::Bytes>, call: Reservation) {
    /// let mut answer = StreamMeter::body(upstream, call, AnswerReader::new(Api::OpenAiChat));
    /// let settled = answer.settled();
    /// tokio::spawn(async move {
    ///     if let Some(charge) = settled.await.and_then(|settled| settled.charge) {
    ///         println!("bill {} input and {} output tokens", charge.input_tokens(), charge.output_tokens());
    ///     }
    /// });
    /// # }
    /// ```
    pub fn settled(&mut self) -> impl Future<Output = Option<Settled>> + Send + use<S, C, K> {
        let settled = self.meter.subscribe();
        async move { settled.await.ok() }
    }

    /// 1,000 tokens: at a hundred a second the store is called every ten seconds, which costs next to nothing. Other
    /// calls of the key miss no more than a short answer.
    pub const DEFAULT_STEP: u64 = meter::DEFAULT_STEP;

    /// Polls a stream or a body, which differ only in how upstream is polled.
    fn poll_metered<T, E: Into<BoxError>>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut poll_upstream: impl FnMut(
            Pin<&mut S>,
            &mut Context<'_>,
        ) -> Poll<Option<Result<Piece<C, T>, E>>>,
    ) -> Poll<Option<Result<Piece<C, T>, StreamError>>>
    where
        K: CountTokens<C>,
    {
        let mut this = self.project();
        this.meter.note_runtime();
        this.meter.renew(cx);
        loop {
            if let Some(Held { chunk, tokens }) = this.held.take() {
                if tokens == 0 {
                    // It has no text: a report of more tokens than fit must not cut off the end of an answer.
                    return Poll::Ready(Some(Ok(Ok(chunk))));
                }
                match this.meter.poll_room(cx) {
                    Poll::Pending => {
                        *this.held = Some(Held { chunk, tokens });
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(Some(Ok(Ok(chunk)))),
                    Poll::Ready(Err(end)) => {
                        *this.last = Some(end);
                        this.meter.finish_without(tokens);
                        this.upstream.set(None);
                    }
                }
            }
            let Some(upstream) = this.upstream.as_mut().as_pin_mut() else {
                ready!(this.meter.poll_settled(cx));
                return Poll::Ready(this.last.take().map(Err));
            };
            match ready!(poll_upstream(upstream, cx)) {
                Some(Ok(Ok(chunk))) => {
                    let counted = COUNT_TOKENS.run(|| {
                        let tokens = this.tokens.count(&chunk);
                        (tokens, State::of(this.tokens))
                    });
                    if let Some((tokens, state)) = counted {
                        this.meter.saw(tokens, state);
                        *this.held = Some(Held { chunk, tokens });
                    } else {
                        *this.last = Some(StreamError::Uncounted);
                        this.meter.finish_without(0);
                        this.upstream.set(None);
                    }
                }
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(Err(other)))),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(StreamError::Upstream(error.into()))));
                }
                None => {
                    // All chunks are passed on already: if the counter panics, its last count stands.
                    if let Some((tokens, state)) = (this.count_rest)(this.tokens) {
                        this.meter.saw(tokens, state);
                    }
                    this.meter.finish_without(0);
                    this.upstream.set(None);
                }
            }
        }
    }
}

impl<S, C, K, E> Stream for StreamMeter<S, C, K>
where
    S: Stream<Item = Result<C, E>>,
    K: CountTokens<C>,
    E: Into<BoxError>,
{
    type Item = Result<C, StreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_metered(cx, |stream, cx| stream.poll_next(cx).map_ok(Ok::<C, Infallible>))
            .map_ok(|Ok(chunk)| chunk)
    }
}

impl<B, K> Body for StreamMeter<B, B::Data, K>
where
    B: Body,
    K: CountTokens<B::Data>,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, StreamError>>> {
        self.poll_metered(cx, |body, cx| body.poll_frame(cx).map_ok(Frame::into_data))
            .map_ok(|piece| piece.map_or_else(|other| other, Frame::data))
    }

    /// Returns whether the stream has ended and its call is settled. A server that sees the end before the settlement
    /// does not poll for it.
    fn is_end_stream(&self) -> bool {
        self.upstream.is_none() && self.last.is_none() && self.meter.is_settled()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            Some(upstream) if self.held.is_none() => upstream.size_hint(),
            // While a chunk is held, the size is that of the chunk and of upstream: no hint is given.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<S, C, K> fmt::Debug for StreamMeter<S, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMeter").field("meter", &self.meter).finish_non_exhaustive()
    }
}

static COUNT_TOKENS: UserCode = UserCode::new("count_tokens");
