'use client';
import { safeReturnTo } from '@propusk/client/react';
import { PropuskError, login, register } from '@propusk/client/tokens';
import { useState } from 'react';

export default function Login() {
  const [problem, setProblem] = useState('');

  async function submit(event) {
    event.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(event.target));
    const isNew = event.nativeEvent.submitter.value === 'register';
    const returnTo = new URLSearchParams(location.search).get('return_to');
    try {
      await (isNew
        ? register({ email, password, delivery: 'cookie' })
        : login({ login: email, password, delivery: 'cookie' }));
      location.assign(safeReturnTo(returnTo, '/account'));
    } catch (error) {
      if (!(error instanceof PropuskError)) throw error;
      setProblem(error.message);
    }
  }

  return (
    <form method="post" onSubmit={submit}>
      <input name="email" type="email" autoComplete="username" required aria-label="Email" />
      <input name="password" type="password" required aria-label="Password" />
      <button value="login">Log in</button>
      <button value="register">Register</button>
      <p role="alert">{problem}</p>
    </form>
  );
}
