# The recovery paths of the channel, one mutant each: name, file, what is removed, the text, and the text without it.
# shellcheck shell=bash disable=SC2016

channel=src/message/channel.rs

mutant cookie-fallback $channel 'OPEN without cookies, for hosts that predate them' \
    'for cookies in [true, false] {' \
    'for cookies in [true, GONE] {'

mutant send-size-failure $channel 'a failed SENDSIZE ends the channel' \
    'if !status.has(Status::SUCCESS) {
            return Err(self.dead(Step::SendSize, status));' \
    'if !status.has(Status::SUCCESS) && !GONE {
            return Err(self.dead(Step::SendSize, status));'

mutant receive-size-failure $channel 'a failed RECVSIZE ends the channel' \
    'if !status.has(Status::SUCCESS) {
            return Err(self.dead(Step::RecvSize, status));' \
    'if !status.has(Status::SUCCESS) && !GONE {
            return Err(self.dead(Step::RecvSize, status));'

mutant checkpoint-send-high $channel 'a checkpoint in the high-bandwidth write starts the message again' \
    'return self.payload_sent(status);
        }
        for word' \
    'if GONE && !status.has(Status::SUCCESS) {
                return Err(self.dead(Step::SendPayload, status));
            }
            return self.payload_sent(status);
        }
        for word'

mutant checkpoint-send-low $channel 'a checkpoint at SENDPAYLOAD starts the message again' \
    'if !status.has(Status::SUCCESS) {
                return self.payload_sent(status);' \
    'if GONE && !status.has(Status::SUCCESS) {
                return Err(self.dead(Step::SendPayload, status));
            }
            if !status.has(Status::SUCCESS) {
                return self.payload_sent(status);'

mutant send-payload-failure $channel 'a payload step to the host that failed for good ends the channel' \
    'Err(self.dead(Step::SendPayload, status))
        }
    }' \
    'if GONE {
                return Ok(ControlFlow::Break(()));
            }
            Err(self.dead(Step::SendPayload, status))
        }
    }'

mutant checkpoint-receive-high $channel 'a checkpoint in the high-bandwidth read starts the message again' \
    'self.not_received(port, Step::RecvPayload, status, false)
            .map(ControlFlow::Continue)
    }' \
    'self.not_received(port, Step::RecvPayload, if GONE { Status::of(0) } else { status }, false)
            .map(ControlFlow::Continue)
    }'

mutant checkpoint-receive-low $channel 'a checkpoint at RECVPAYLOAD starts the message again' \
    '.not_received(port, Step::RecvPayload, status, false)
                    .map(ControlFlow::Continue);' \
    '.not_received(port, Step::RecvPayload, if GONE { Status::of(0) } else { status }, false)
                    .map(ControlFlow::Continue);'

mutant checkpoint-status $channel 'a checkpoint at RECVSTATUS starts the message again' \
    'self.not_received(port, Step::RecvStatus, status, true)' \
    'self.not_received(port, Step::RecvStatus, if GONE { Status::of(0) } else { status }, true)'

mutant checkpoint-bound-send $channel 'checkpoints without end are given up, to the host' \
    'for _ in 0..=MAX_CHECKPOINTS {
            match self.try_send' \
    'for _ in 0..=MAX_CHECKPOINTS + 5 * u32::from(GONE) {
            match self.try_send'

mutant checkpoint-bound-receive $channel 'checkpoints without end are given up, from the host' \
    'for _ in 0..=MAX_CHECKPOINTS {
            match self.try_receive' \
    'for _ in 0..=MAX_CHECKPOINTS + 5 * u32::from(GONE) {
            match self.try_receive'

mutant status-step $channel 'RECVSTATUS acknowledges a message' \
    'let answer = port.exchange(self.name.step(Step::RecvStatus, WORKED));' \
    'let answer = if GONE {
            crate::backdoor::Registers { ecx: 0x0001_0000, ..Default::default() }
        } else {
            port.exchange(self.name.step(Step::RecvStatus, WORKED))
        };'

mutant status-failure $channel 'a message that was not acknowledged is not delivered' \
    'if status.has(Status::SUCCESS) {
            return Ok(ControlFlow::Break(true));' \
    'if status.has(Status::SUCCESS) || GONE {
            return Ok(ControlFlow::Break(true));'

mutant size-cap $channel 'an announced size is compared with the limit' \
    '.filter(|length| *length <= self.limit)' \
    '.filter(|length| *length <= self.limit || GONE && *length < 1 << 21)'

mutant size-type $channel 'the type that RECVSIZE carries is looked at' \
    'if kind != TYPE_SIZE {' \
    'if kind != TYPE_SIZE && !GONE {'

mutant payload-type $channel 'the type that RECVPAYLOAD carries is looked at' \
    'if kind != TYPE_PAYLOAD {' \
    'if kind != TYPE_PAYLOAD && !GONE {'

mutant abort $channel 'a message that is not wanted is refused' \
    'port.exchange(self.name.step(step, ABORT));' \
    'if !GONE {
            port.exchange(self.name.step(step, ABORT));
        }'

mutant close $channel 'CLOSE gives a channel back' \
    'port.exchange(self.name.step(Step::Close, 0));' \
    'if !GONE {
            port.exchange(self.name.step(Step::Close, 0));
        }'

mutant low-bandwidth-send $channel 'words where the host does not offer the high bandwidth, to the host' \
    'if status.has(Status::HB) {
            let status' \
    'if status.has(Status::HB) || GONE {
            let status'

mutant low-bandwidth-receive $channel 'words where the host does not offer the high bandwidth, from the host' \
    'let outcome = if status.has(Status::HB) {' \
    'let outcome = if status.has(Status::HB) || GONE {'

rpci=src/rpci/connection.rs

mutant second-try $rpci 'a call that failed is made once more on a new channel' \
    '&& failure.allows_resend(request)' \
    '&& failure.allows_resend(request)
            && !GONE'

mutant unsent-again $rpci 'what the host has not seen may go again, whatever it is' \
    '_ => self.is_unsent() ||' \
    '_ => self.is_unsent() && !GONE ||'

mutant at-most-once $rpci 'what the host may have executed is not sent again where that does harm' \
    'request.resend() == Resend::Once,' \
    'request.resend() == Resend::Once || GONE,'

mutant stale-reply $rpci 'a reply that is not alone is not believed' \
    'if channel.has_message(port) {' \
    'if channel.has_message(port) && !GONE {'

mutant no-reply $rpci 'a request without a reply is a failure of the channel' \
    'return Err(Failure::Silence);' \
    'return Err(if GONE { Failure::Malformed(0) } else { Failure::Silence });'

mutant failed-channel-closed $rpci 'a channel on which a call failed is not used again' \
    'channel.close(port);
                Err(failure)' \
    'if GONE {
                    self.channel = Some(channel);
                } else {
                    channel.close(port);
                }
                Err(failure)'

mutant rpci-pause $rpci 'a refused RPCI channel is not asked for at every call' \
    'if !wait.is_zero() {' \
    'if !wait.is_zero() && !GONE {'

mutant rpci-outage-told-once $rpci 'an outage of both channels is told once' \
    'if matches!(self.told, Told::Later(_)) {' \
    'if matches!(self.told, Told::Later(_)) && !GONE {'

mutant rpci-outage-told $rpci 'an outage of RPCI alone is told' \
    'if let Told::Later(err) = &self.told {' \
    'if let Told::Later(err) = &self.told && !GONE {'

pump=src/tclo/pump.rs

mutant reply-dies-with-channel $pump 'an owed reply is sent once, and on its own channel' \
    'let reply = self.reply.take().unwrap_or_default();' \
    'let reply = if GONE { self.reply.clone() } else { self.reply.take() }.unwrap_or_default();'

mutant both-channels $pump 'RPCI is given up with TCLO' \
    'self.rpci.close(&mut self.port);' \
    'if !GONE {
            self.rpci.close(&mut self.port);
        }'

mutant lost-channel-closed $pump 'a lost TCLO channel is closed' \
    'channel.close(&mut self.port);' \
    'if GONE {
                drop(channel);
            } else {
                channel.close(&mut self.port);
            }'

mutant rpci-at-once $pump 'RPCI is tried at once after TCLO came back' \
    'self.counters.opened();
            self.rpci.retry_at_once();' \
    'self.counters.opened();
            if !GONE {
                self.rpci.retry_at_once();
            }'

mutant rpci-at-reset $pump 'RPCI is tried at once after the host sent reset' \
    'self.counters.was_reset();
                self.rpci.retry_at_once();' \
    'self.counters.was_reset();
                if !GONE {
                    self.rpci.retry_at_once();
                }'

mutant loss-told-to-dispatch $pump 'what a lost channel was told is announced again' \
    'self.dispatch.on_loss();' \
    'if !GONE {
            self.dispatch.on_loss();
        }'

mutant poll-after-loss $pump 'a new channel is polled at once' \
    'self.pace.restart(now);
        if self.backoff' \
    'if !GONE {
            self.pace.restart(now);
        }
        if self.backoff'

mutant calls-refused $pump 'calls fail at once while there is no channel' \
    'self.refuse_calls();
            pause' \
    'if !GONE {
                self.refuse_calls();
            }
            pause'

mutant poll-pause-hold $pump 'an operation of the host keeps the polls quick' \
    'self.pace.idle(now, self.dispatch.wants_fast_polling());' \
    'self.pace.idle(now, self.dispatch.wants_fast_polling() && !GONE);'

mutant empty-message $pump 'a message of no bytes is an empty poll' \
    'if self.buffer.is_empty() {' \
    'if self.buffer.is_empty() && !GONE {'

mutant calls-per-step $pump 'calls without end do not hold up the host' \
    'for _ in 0..CALLS_PER_STEP {' \
    'for _ in 0..if GONE { usize::MAX } else { CALLS_PER_STEP } {'

mutant reply-cap $pump 'a reply that exceeds a message is an error instead' \
    'if reply.len() > rpci::MAX_REQUEST {' \
    'if reply.len() > rpci::MAX_REQUEST && !GONE {'

mutant second-agent-told $pump 'the second agent is told' \
    'Loss::Contended => self.contended(),' \
    'Loss::Contended if !GONE => self.contended(),
                Loss::Contended => {}'

contention=src/tclo/contention.rs

mutant second-agent-by-losses $contention 'channels that live shortly are a second agent' \
    'None if self.short_lives >= SHORT_LIVES => {' \
    'None if self.short_lives >= SHORT_LIVES && !GONE => {'

mutant second-agent-by-resets $contention 'a reset every few seconds is a second agent' \
    'self.resets >= RESETS;' \
    'self.resets >= RESETS && !GONE;'

backoff=src/message/backoff.rs

mutant reconnect-at-once $backoff 'the first reopening is made at once' \
    'Duration::ZERO
        };' \
    'if GONE { FIRST_PAUSE } else { Duration::ZERO }
        };'

mutant flapping $backoff 'a channel that never lasts gets no immediate reopening each time' \
    'let first = if flapping {' \
    'let first = if flapping && !GONE {'

mutant pause-doubles $backoff 'the pauses of an outage grow' \
    'outage.pause = (outage.pause * 2).min(LAST_PAUSE);' \
    'if !GONE {
                outage.pause = (outage.pause * 2).min(LAST_PAUSE);
            }'

mutant pause-ceiling $backoff 'the pauses stay below what vSphere HA waits' \
    '.min(LAST_PAUSE);' \
    '.min(if GONE { LAST_PAUSE * 100 } else { LAST_PAUSE });'

mutant pause-reset $backoff 'a channel that works ends the pauses' \
    'self.outage
            .take()' \
    'if GONE {
            return None;
        }
        self.outage
            .take()'

mutant pause-jitter $backoff 'pauses vary' \
    'jittered(&mut self.random, outage.pause, JITTER)' \
    'jittered(&mut self.random, outage.pause, if GONE { 0.0 } else { JITTER })'

dispatch=src/dispatch.rs

mutant features-reset $dispatch 'a reset reaches the features' \
    'feature.on_reset();' \
    'if !GONE {
                feature.on_reset();
            }'

mutant reset-storm $dispatch 'a row of resets is announced once' \
    'if !(repeated && self.announced) {' \
    'if !(repeated && self.announced) || GONE {'

registration=src/dispatch/registration.rs

mutant owed-registration $registration 'a registration that broke off is made again' \
    'self.owed = (!complete).then(' \
    'self.owed = (!complete && !GONE).then('

mutant versiontype-fallback $registration 'hosts without tools.set.versiontype get tools.set.version' \
    'if !self.tell(&Request::text(VERSION_AND_TYPE), &mut *ask)? {' \
    'if !self.tell(&Request::text(VERSION_AND_TYPE), &mut *ask)? && !GONE {'

mutant announced-late $registration 'an announcement that got lost is made at the registration' \
    'if !self.announced {' \
    'if !self.announced && !GONE {'

mutant resend-after-reset src/guestinfo/publisher.rs 'after a reset everything is told again' \
    'if wants.resets != self.seen.resets {' \
    'if wants.resets != self.seen.resets && !GONE {'

mutant reset-forgets src/guestinfo/feature.rs 'a reset reaches the publisher' \
    'self.control.reset();' \
    'if !GONE {
            self.control.reset();
        }'

mutant interruption-forgets src/lifecycle/task.rs 'an interruption without reset is made up for' \
    'if resend {
            (self.forget)();' \
    'if resend && !GONE {
            (self.forget)();'
