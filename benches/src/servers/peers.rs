//! The echo on other libraries for Rust, each as its own documentation teaches it.

use std::future::Future;
use std::net::TcpListener;

use super::READ_BYTES;
use crate::cli::Outcome;

pub(super) fn tokio_current(listener: TcpListener, _threads: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(on_tokio(listener))
}

pub(super) fn tokio_multi(listener: TcpListener, threads: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_io()
        .build()?;
    // On a worker, where a task that it spawns stays near.
    runtime.block_on(
        runtime.spawn(async { on_tokio(listener).await.map_err(|error| error.to_string()) }),
    )??;
    Ok(())
}

async fn on_tokio(listener: TcpListener) -> Outcome {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub(super) fn smol(listener: TcpListener, threads: usize) -> Outcome {
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    async fn accept(executor: &'static smol::Executor<'static>, listener: TcpListener) -> Outcome {
        let listener = smol::Async::new(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            let serving = executor.spawn(async move {
                let mut buffer = vec![0; READ_BYTES];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
            serving.detach();
        }
    }

    let executor: &smol::Executor<'_> = Box::leak(Box::new(smol::Executor::new()));
    for index in 1..threads {
        let builder = std::thread::Builder::new().name(format!("smol{index}"));
        builder.spawn(|| smol::block_on(executor.run(std::future::pending::<()>())))?;
    }
    smol::block_on(executor.run(accept(executor, listener)))
}

pub(super) fn compio(listener: TcpListener, _threads: usize) -> Outcome {
    use compio::io::{AsyncRead, AsyncWriteExt};

    // Its streams cannot be told; what they are accepted from hands it down.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    let runtime = compio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = compio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            let serving = compio::runtime::spawn(async move {
                let mut buffer = Vec::with_capacity(READ_BYTES);
                loop {
                    buffer.clear();
                    let result = stream.read(buffer).await;
                    let Ok(1..) = result.0 else { break };
                    let result = stream.write_all(result.1).await;
                    if result.0.is_err() {
                        break;
                    }
                    buffer = result.1;
                }
            });
            serving.detach();
        }
    })
}

/// What monoio runs on here, if not on io_uring.
pub(super) fn monoio_remark() -> Option<&'static str> {
    let refused = !monoio::utils::detect_uring();
    refused.then_some("monoio runs on epoll: the kernel refuses io_uring")
}

pub(super) fn monoio(listener: TcpListener, _threads: usize) -> Outcome {
    if monoio::utils::detect_uring() {
        let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build()?;
        return runtime.block_on(on_monoio(listener));
    }
    let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build()?;
    runtime.block_on(on_monoio(listener))
}

fn on_monoio(listener: TcpListener) -> impl Future<Output = Outcome> {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

    async {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(async move {
                let mut buffer = Vec::with_capacity(READ_BYTES);
                loop {
                    let result = stream.read(buffer).await;
                    let Ok(1..) = result.0 else { break };
                    let result = stream.write_all(result.1).await;
                    if result.0.is_err() {
                        break;
                    }
                    buffer = result.1;
                }
            });
        }
    }
}
